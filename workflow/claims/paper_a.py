"""Claims of paper A (Han et al., CVPR 2020), written before any run of three seeds.

Where a sentence names no number, what decides it is chosen here. *Greatly* is at most half of the other's FID.
*Competitive* is better than most of the systems listed. *As good* is within the table's tolerance.
"""

from dtri.report.claims import BY_EQUATIONS, LOOK, Claim, Condition, Quantity

OURS, PLUS, CONTROL, TRIANGLE = "joint_vae_ebm", "joint_vae_ebm_plus", "joint_vae_ebm_control", "divergence_triangle"
SETS = {"cifar10": "CIFAR-10", "celeba": "CelebA", "lsun_bedroom": "LSUN-bedroom"}
OTHERS = {"svhn": "SVHN", "uniform": "uniform noise", "dtd": "Texture", "celeba32": "CelebA"}
DIGITS = (1, 4, 5, 7, 9)
GENERATORS = {
    "cifar10": ("vae", "dcgan", "wgan", "coopnet", "alice", "svae", "sngan"),
    "celeba": ("vae", "dcgan", "wgan", "coopnet", "alice", "svae", "sngan"),
    "lsun_bedroom": ("vae", "dcgan", "wgan", "coopnet", "alice", "sngan"),
}
RECONSTRUCTORS = ("vae", "ali", "alice", "svae")


def of(metric: str, dataset: str, model: str = OURS, against: str = "", score: str = "", above: str = "") -> Quantity:
    """A quantity of paper A; arguments as in `Quantity`."""
    return Quantity("A", metric, dataset, model, against, score, above)


def better(metric: str, dataset: str, than: str, model: str = OURS, **limits: float) -> Condition:
    """The condition that `model` is better than the system `than`; `limits` are fields of `Condition`."""
    return Condition(of(metric, dataset, model), of(metric, dataset, than), **limits)


GENERATION = (
    *(
        Claim(
            id=f"A.improves.{data}",
            paper="A",
            place="abstract, section 5.1, conclusion; Table 1",
            statement=f"Joint training greatly improves the synthesis quality of the VAE on {name} (FID at most half)",
            kind="improvement",
            conditions=(better("fid", data, "vae", factor=0.5),),
        )
        for data, name in SETS.items()
    ),
    *(
        Claim(
            id=f"A.competitive.{data}",
            paper="A",
            place="section 5.1; Table 1",
            statement=f"Generation on {name} is competitive: a lower FID than most of the baselines listed",
            kind="best",
            conditions=tuple(better("fid", data, model) for model in GENERATORS[data]),
            needs=len(GENERATORS[data]) // 2 + 1,
        )
        for data, name in SETS.items()
    ),
    *(
        Claim(
            id=f"A.best_fid.{data}",
            paper="A",
            place="Table 1, bold",
            statement=f"Ours has the lowest FID of all systems on {SETS[data]}",
            kind="best",
            conditions=tuple(better("fid", data, model) for model in (*GENERATORS[data], PLUS)),
        )
        for data in ("celeba", "lsun_bedroom")
    ),
    Claim(
        id="A.sngan.cifar10",
        paper="A",
        place="section 5.1; Table 1, bold",
        statement="SNGAN gets better generation than Ours on CIFAR-10, which has a relatively small resolution",
        kind="order",
        conditions=(better("fid", "cifar10", OURS, "sngan"),),
    ),
    *(
        Claim(
            id=f"A.sngan.{data}",
            paper="A",
            place="section 5.1; Table 1",
            statement=f"Ours generates better than SNGAN on {SETS[data]}, of higher resolution and diverse patterns",
            kind="order",
            conditions=(better("fid", data, "sngan"),),
        )
        for data in ("celeba", "lsun_bedroom")
    ),
    Claim(
        id="A.triangle.fid",
        paper="A",
        place="section 5.1",
        statement="Compared with paper B's divergence triangle (31.9), Ours has the lower FID on CelebA (24.7)",
        kind="order",
        conditions=(better("fid", "celeba", TRIANGLE),),
    ),
    Claim(
        id="A.triangle.is",
        paper="A",
        place="section 5.1",
        statement="The Inception Score on CIFAR-10 (7.17) is as good as the divergence triangle's (7.23), within 5 %",
        kind="level",
        conditions=(
            better("is", "cifar10", TRIANGLE, factor=0.95),
            better("is", "cifar10", OURS, TRIANGLE, factor=0.95),
        ),
    ),
    Claim(
        id="A.stable",
        paper="A",
        place="section 5.1",
        statement="Ours has more stable training than SNGAN",
        kind="words",
        unmeasured="the paper says neither what stability is nor how it was measured; diverged seeds are counted here",
    ),
    Claim(
        id="A.samples",
        paper="A",
        place="Figure 1",
        statement="The generator draws realistic samples that share visual similarities with the training data",
        kind="words",
        unmeasured=LOOK,
    ),
    Claim(
        id="A.no_mcmc",
        paper="A",
        place="abstract, section 4.2",
        statement="The latent EBM needs no Markov chain Monte Carlo, neither to infer nor to synthesize",
        kind="words",
        unmeasured=BY_EQUATIONS,
    ),
)

EQUATIONS = (
    *(
        Claim(
            id=f"A.eq15.fid.{data}",
            paper="A",
            place="Table 1",
            statement=f"Training the inference network by Eqn. 15 gives a lower FID on {name} than by Eqn. 17",
            kind="order",
            conditions=(better("fid", data, PLUS),),
        )
        for data, name in SETS.items()
    ),
    *(
        Claim(
            id=f"A.eq15.rmse.{data}",
            paper="A",
            place="Table 2",
            statement=f"Training the inference network by Eqn. 15 reconstructs {SETS[data]} better than by Eqn. 17",
            kind="order",
            conditions=(better("rmse", data, PLUS),),
        )
        for data in ("cifar10", "celeba")
    ),
    Claim(
        id="A.eq15.rmse.lsun_bedroom",
        paper="A",
        place="Table 2",
        statement="Training by Eqn. 15 and by Eqn. 17 reconstructs LSUN-bedroom equally well, within 0.01",
        kind="level",
        conditions=(better("rmse", "lsun_bedroom", PLUS, low=-0.01, high=0.01),),
    ),
    *(
        Claim(
            id=f"A.eq15_alone.{metric}.{data}",
            paper="A",
            place=f"Table {table}, with nothing but the equation different (this project's control)",
            statement=f"With all else equal, Eqn. 15 gives a lower {metric.upper()} on {SETS[data]} than Eqn. 17",
            kind="order",
            conditions=(better(metric, data, PLUS, CONTROL),),
        )
        for table, metric in ((1, "fid"), (2, "rmse"))
        for data in ("cifar10", "celeba")
    ),
)

RECONSTRUCTION = (
    *(
        Claim(
            id=f"A.best_rmse.{data}",
            paper="A",
            place="section 5.2; Table 2, bold",
            statement=f"Ours reconstructs test images of {SETS[data]} best of all systems with inference",
            kind="best",
            conditions=tuple(better("rmse", data, model) for model in (*RECONSTRUCTORS, PLUS)),
        )
        for data in ("cifar10", "celeba")
    ),
    Claim(
        id="A.vae_ineffective",
        paper="A",
        place="section 5.2; Table 2",
        statement="The VAE alone is ineffective on a complex dataset: it reconstructs LSUN-bedroom worse than Ours "
        "(the paper's own numbers say the opposite, 0.164 against 0.169)",
        kind="order",
        conditions=(better("rmse", "lsun_bedroom", "vae"),),
    ),
    *(
        Claim(
            id=f"A.both.{data}",
            paper="A",
            place="section 5.2; Tables 1 and 2",
            statement=f"Ours has both: better generation than the VAE and more accurate reconstruction, on {name}",
            kind="improvement",
            conditions=(better("fid", data, "vae"), better("rmse", data, "vae")),
        )
        for data, name in SETS.items()
    ),
)

OUT_OF_DISTRIBUTION = (
    *(
        Claim(
            id=f"A.ood.{other}",
            paper="A",
            place="section 5.3; Table 3, Figure 3",
            statement=f"Images of {name} get a higher energy than CIFAR-10 test images: AUROC above chance",
            kind="level",
            conditions=(Condition(of("auroc", "cifar10", against=other), low=0.5),),
        )
        for other, name in OTHERS.items()
    ),
    Claim(
        id="A.ood_perfect",
        paper="A",
        place="Table 3",
        statement="Uniform noise is told apart perfectly: AUROC 1.0, within 0.05",
        kind="level",
        conditions=(Condition(of("auroc", "cifar10", against="uniform"), low=0.95),),
    ),
    *(
        Claim(
            id=f"A.best_auroc.{other}",
            paper="A",
            place="Table 3, bold",
            statement=f"Ours has the highest AUROC against {OTHERS[other]} (of ALICE and SVAE by either sign)",
            kind="best",
            conditions=tuple(
                Condition(of("auroc", "cifar10", against=other), of("auroc", "cifar10", model, other, score))
                for model, score in (
                    *((("igebm", ""),) if other != "celeba32" else ()),
                    *((model, score) for model in ("alice", "svae") for score in ("", "reversed")),
                )
            ),
        )
        for other in ("svhn", "dtd", "celeba32")
    ),
    Claim(
        id="A.best_auroc.uniform",
        paper="A",
        place="Table 3, bold",
        statement="Ours is as good as the EBM against uniform noise (both 1.0), within 0.05, and better than SVAE by "
        "either sign",
        kind="best",
        conditions=(
            Condition(of("auroc", "cifar10", against="uniform"), of("auroc", "cifar10", "igebm", "uniform"), low=-0.05),
            *(
                Condition(of("auroc", "cifar10", against="uniform"), of("auroc", "cifar10", "svae", "uniform", score))
                for score in ("", "reversed")
            ),
        ),
    ),
    Claim(
        id="A.minima",
        paper="A",
        place="section 5.3",
        statement="A training image with its inferred latent vector is a local minimum of the learned energy",
        kind="words",
        unmeasured="said as an expectation; the paper measures no minima",
    ),
    Claim(
        id="A.sensitive",
        paper="A",
        place="section 6",
        statement="The learned energy is sensitive to hyperparameters and within the training",
        kind="words",
        unmeasured="no range of hyperparameters is named; the ± over the last weights of a training stands in Table 4",
    ),
)

ANOMALY = (
    *(
        Claim(
            id=f"A.anomaly.{digit}",
            paper="A",
            place="abstract, section 5.4; Table 4",
            statement=f"The energy detects the held-out digit {digit} as an anomaly: AUPRC above chance"
            + (" (the printed one is below)" if digit == 1 else ""),
            kind="level",
            conditions=(Condition(of("auprc", f"mnist_holdout{digit}", above="chance")),),
        )
        for digit in DIGITS
    ),
    *(
        Claim(
            id=f"A.best_auprc.{digit}",
            paper="A",
            place="Table 4, bold",
            statement=f"Ours detects the held-out digit {digit} best of VAE, MEG, BiGAN-σ and Ours",
            kind="best",
            conditions=tuple(better("auprc", f"mnist_holdout{digit}", model) for model in ("vae", "meg", "bigan")),
        )
        for digit in DIGITS
    ),
)

CLAIMS = (*GENERATION, *EQUATIONS, *RECONSTRUCTION, *OUT_OF_DISTRIBUTION, *ANOMALY)
