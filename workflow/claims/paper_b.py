"""Claims of paper B (Han et al., CVPR 2019), written before any run of three seeds.

Where a sentence names no number, what decides it is chosen here. *Competitive* is better than most of the systems
listed. *Meaningful* basins agree with labels better than 95 % of random labels would.
"""

from dtri.report.cells import Cell
from dtri.report.claims import BY_EQUATIONS, LOOK, Claim, Condition, Quantity

OURS = "divergence_triangle"
GENERATORS = ("vae", "dcgan", "wgan", "coopnet", "cegan", "ali", "alice")
RECONSTRUCTORS = ("wake_sleep", "vae", "ali", "alice")
ROWS = (
    ("is", "cifar10", "Inception Score on CIFAR-10", GENERATORS),
    ("fid", "celeba", "FID on CelebA", GENERATORS),
)
SETS = {"cifar10": "CIFAR-10", "celeba": "CelebA"}
PURITY = Cell(
    paper="B",
    metric="landscape_purity",
    dataset="fashion_mnist",
    model="divergence_triangle_landscape",
    row="Fashion-MNIST",
    column="Divergence triangle (B)",
    published=None,
    direction="higher",
    tolerance=0.0,
)
FURTHER = (PURITY,)  # cells of claims that stand in no table


def better(metric: str, dataset: str, than: str) -> Condition:
    """The condition that the divergence triangle is better than the system `than`."""
    return Condition(Quantity("B", metric, dataset, OURS), Quantity("B", metric, dataset, than))


CLAIMS = (
    *(
        Claim(
            id=f"B.competitive.{metric}",
            paper="B",
            place="section 4.1.1; Table 1",
            statement=f"Performance is competitive with recent baselines: a better {name} than most of them",
            kind="best",
            conditions=tuple(better(metric, data, model) for model in models),
            needs=len(models) // 2 + 1,
        )
        for metric, data, name, models in ROWS
    ),
    *(
        Claim(
            id=f"B.best_{metric}",
            paper="B",
            place="Table 1",
            statement=f"The divergence triangle has the best {name} of all systems",
            kind="best",
            conditions=tuple(better(metric, data, model) for model in models),
        )
        for metric, data, name, models in ROWS
    ),
    *(
        Claim(
            id=f"B.best_mse.{data}",
            paper="B",
            place="abstract, section 4.2; Table 2",
            statement=f"Feed-forward inference reconstructs test images of {name} best of all systems",
            kind="best",
            conditions=tuple(better("mse", data, model) for model in RECONSTRUCTORS),
        )
        for data, name in SETS.items()
    ),
    Claim(
        id="B.synthesized",
        paper="B",
        place="abstract (3)",
        statement="Feed-forward inference faithfully reconstructs synthesized data too",
        kind="words",
        unmeasured="no number or figure of it is given",
    ),
    Claim(
        id="B.basins",
        paper="B",
        place="abstract, section 4.3; Figure 11",
        statement="The energy partitions the image space into meaningful basins: their label purity exceeds 95 % of "
        "permutations of the labels",
        kind="existence",
        conditions=(
            Condition(
                Quantity(
                    "B",
                    "landscape_purity",
                    "fashion_mnist",
                    "divergence_triangle_landscape",
                    above="purity.chance_high",
                )
            ),
        ),
    ),
    Claim(
        id="B.minima",
        paper="B",
        place="section 4.3; Figure 11",
        statement="The learned energy encodes meaningful images as minima",
        kind="words",
        unmeasured=LOOK,
    ),
    Claim(
        id="B.samples",
        paper="B",
        place="section 1.1; Figures 6 and 7",
        statement="The generator draws highly realistic samples, also of ImageNet and LSUN",
        kind="words",
        unmeasured=LOOK,
    ),
    Claim(
        id="B.high_resolution",
        paper="B",
        place="section 4.1.3; Figures 8 and 9",
        statement="Layer-wise training reaches synthesis of high fidelity at 1,024 x 1,024, with smooth interpolation",
        kind="words",
        unmeasured=LOOK,
    ),
    Claim(
        id="B.no_mcmc",
        paper="B",
        place="abstract",
        statement="Sampling, inference and evaluation of the energy need no Markov chain Monte Carlo",
        kind="words",
        unmeasured=BY_EQUATIONS,
    ),
)
