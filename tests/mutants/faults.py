"""The faults: a piece of source, what stands in its place, and the tests that have to notice.

Each source occurs once in its file (tests/test_mutants.py). A fault that no test can notice says why in `survives`.
"""

from dataclasses import dataclass
from pathlib import Path

ROOMS = {  # path -> room; the longest path that fits counts
    "baselines": "losses",
    "dtri/models": "losses",
    "dtri/objectives": "losses",
    "dtri/sampling": "losses",
    "dtri/model.py": "losses",
    "dtri/networks": "networks",
    "dtri": "engine",
    "dtri/data": "data",
    "dtri/metrics": "metrics",
    "dtri/landscape": "landscape",
    "dtri/report": "verdicts",
    "workflow": "verdicts",
    "workflow/config": "settings",
    "workflow/commands": "commands",
}


@dataclass(frozen=True)
class Fault:
    file: str
    source: str
    planted: str
    tests: tuple[str, ...]
    survives: str = ""  # why no test notices; such a fault does not count
    place: int = 0  # the line from 1, for a source that is one whole line; 0: it occurs once

    @property
    def room(self) -> str:
        return ROOMS[max((path for path in ROOMS if self.file.startswith(path)), key=len)]

    def times(self, root: Path) -> int:
        text = (root / self.file).read_text("utf-8")
        return int(text.splitlines()[self.place - 1] == self.source) if self.place else text.count(self.source)

    def planted_in(self, root: Path) -> str:
        """The file with the fault."""
        text = (root / self.file).read_text("utf-8")
        if not self.place:
            return text.replace(self.source, self.planted)
        lines = text.splitlines(keepends=True)
        lines[self.place - 1] = self.planted + "\n"
        return "".join(lines)

    def __str__(self) -> str:
        place = f":{self.place}" if self.place else ""
        return f"{self.file}{place}  {' '.join(self.source.split())}  ->  {' '.join(self.planted.split())}"


def faults(file: str, tests: str | tuple[str, ...], *pairs: tuple[str, str] | tuple[str, str, str]) -> list[Fault]:
    """(source, planted) in one file for the same tests; a third text says why one survives."""
    tests = (tests,) if isinstance(tests, str) else tests
    return [Fault(file, source, planted, tests, *rest) for source, planted, *rest in pairs]


STEPS = "tests/test_steps.py::test_"
NETWORKS = "tests/test_networks.py::test_"
ENGINE = "tests/test_engine.py::test_"
TRIANGLE, OURS = (STEPS + "divergence_triangle[True]", STEPS + "divergence_triangle[False]"), STEPS + "joint_vae_ebm"
GENERATION = "tests/test_generation_command.py::test_values_are_those_of_the_samples_and_the_references_named"
RANKING = "tests/test_ranking_command.py::test_"
MEASURING = "tests/test_measuring.py::test_"
LANDSCAPE = "tests/test_landscape.py::test_"
MAPS = "tests/test_landscape_command.py::test_"
RELATIONS = "tests/test_relations.py::test_"

LOSSES = [
    *faults(
        "dtri/models/divergence_triangle.py",
        TRIANGLE,
        ("            z_x = gaussian.sample(*self.encoder(x))", "            z_x = self.encoder(x)[0]"),
        ("self.generate(gaussian.sample(mu, logvar))", "self.generate(mu)"),
        ("for k in range(h.generator_steps):", "for k in range(1):"),
        ("                if k > 0:\n", "                if k > 1:\n"),
        ("h.elbo_weight * (rec + kl)", "(h.elbo_weight * rec + kl)"),
        ('self.descend("energy", u_real - u_fake, h.clip_norm)', 'self.descend("energy", u_real - u_fake)'),
        ('self.descend("energy", u_real - u_fake,', 'self.descend("energy", u_fake - u_real,'),
        (
            "+ h.latent_weight * latent, h.clip_norm)\n\n        with",
            "- h.latent_weight * latent, h.clip_norm)\n\n        with",
        ),
        ("h.elbo_weight * rec + adversarial +", "h.elbo_weight * rec - adversarial +"),
        (".mean() / h.z_dim\n", ".mean()\n"),
        ("betas, weight_decay=h.weight_decay)", "betas)"),
        ("        with untracked(self.encoder):\n            return", "        if True:\n            return"),
        (
            "Adam(self.encoder.parameters(), h.lr_encoder, betas)",
            "Adam(self.encoder.parameters(), h.lr_energy, betas)",
            "the engine sets the rates of `learning_rates` before every iteration",
        ),
        (
            '"encoder": h.lr_encoder, "generator": h.lr_generator}',
            '"encoder": h.lr_generator, "generator": h.lr_generator}',
        ),
        ("exponential(lr, h.gamma, h.gamma_every, t)", "exponential(lr, h.gamma, 500, t)"),
    ),
    *faults(
        "dtri/models/joint_vae_ebm.py",
        (OURS, NETWORKS + "networks_of_every_system"),
        ("z_x = gaussian.sample(mu, logvar)", "z_x = mu"),
        ('self.descend("critic", f_fake - f_real, h.clip_norm)', 'self.descend("critic", f_fake - f_real)'),
        ("self.critic(x, z_x)), h.clip_norm)", "self.critic(x, z_x)))"),
        ("return (auto_encoder + h.energy_weight * f).mean()", "return (auto_encoder - h.energy_weight * f).mean()"),
        (
            "- h.entropy_weight * gaussian.entropy(logvar)).mean()",
            "+ h.entropy_weight * gaussian.entropy(logvar)).mean()",
        ),
        ("h.prior_weight * gaussian.prior_energy(mu, logvar)", "h.rec_weight * gaussian.prior_energy(mu, logvar)"),
        ("h.rec_weight * rec + h.energy_weight * adversarial", "rec + h.energy_weight * adversarial"),
        ("adversarial = -self.critic(x_fake, z).mean()", "adversarial = self.critic(x_fake, z).mean()"),
        ("x_fake + self.h.noise * torch.randn_like(x_fake)", "x_fake + torch.randn_like(x_fake)"),
        ("self.critic.exchanged(x, z_x)", "self.critic.exchanged(x, mu)"),
        ("logvar_range=h.logvar_range)", ")"),
        ("f_real = self.critic(x, z_x.detach()).mean()", "f_real = self.critic(x, z).mean()"),
    ),
    *faults(
        "dtri/models/divergence_triangle_progressive.py",
        STEPS + "the_grown_triangle",
        ("(h.rec_side / self.sides[self._now.level]) ** 2", "(h.rec_side / self.sides[self._now.level])"),
        ("rec_weight * rec + kl + h.latent_weight", "rec + kl + h.latent_weight"),
        ("self.alpha.fill_((t - now.start) / now.steps", "self.alpha.fill_((t + 1 - now.start) / now.steps"),
        ("memory.zero_()", "pass"),
        ("x.flip(3), x)", "x.flip(2), x)"),
        ("rec_weight * rec + adversarial + h.latent", "rec_weight * rec - adversarial + h.latent"),
        ("z_x = gaussian.sample(*self.encoder(x, *grown))", "z_x = self.encoder(x, *grown)[0]"),
        ("cross_fade(up(down(x)), x, self._fade)", "cross_fade(x, up(down(x)), self._fade)"),
    ),
    *faults(
        "dtri/objectives/gaussian.py",
        (*TRIANGLE, OURS),
        ("mu + torch.exp(0.5 * logvar)", "mu + torch.exp(logvar)"),
        ("logvar.exp() - 1.0 - logvar)", "logvar.exp() - 1.0 + logvar)"),
        ("return 0.5 * (mu.square() + logvar.exp()).sum(1)", "return (mu.square() + logvar.exp()).sum(1)"),
        ("return 0.5 * logvar.sum(1)", "return 0.5 * logvar.mean(1)"),
        ("(z - mu).square() / (logvar.exp() + STABILITY)", "(z - mu).square() * (logvar.exp() + STABILITY)"),
    ),
    *faults(
        "dtri/objectives/reconstruction.py",
        (STEPS + "vae", "tests/test_objectives.py::test_sse_sums_over_channels_and_pixels"),
        (".flatten(1).sum(1)", ".flatten(1).mean(1)"),
    ),
    *faults(
        "dtri/objectives/gradient_penalty.py",
        (STEPS + "wgan", STEPS + "meg"),
        ("e * x + (1 - e) * x_fake)", "x)"),
        ("torch.rand(len(x), 1, 1, 1, device=x.device)", "torch.rand_like(x)"),
        ("norm(dim=1) - 1).square()", "norm(dim=1) - 1).relu().square()"),
        (".square().sum(1).mean()", ".square().mean()"),
    ),
    *faults(
        "dtri/objectives/hinge.py",
        STEPS + "sngan",
        ("relu(1 + a_fake).mean()", "relu(a_fake).mean()"),
        ("return -a_fake.mean()", "return relu(1 - a_fake).mean()"),
    ),
    *faults(
        "dtri/objectives/schedules.py",
        (STEPS + "vae", "tests/test_objectives.py::test_exponential_schedule_is_the_stepped_scheduler"),
        ("gamma ** (t // every + 1)", "gamma ** (t // every)"),
    ),
    *faults(
        "dtri/objectives/dependence.py",
        (OURS, "tests/test_objectives.py::test_share_of_latents_in_a_critic"),
        ("(f - f_other).abs().mean()", "(f - f_other).square().mean()"),
        ("f.std(correction=0)", "f.var(correction=0)"),
    ),
    *faults(
        "baselines/vae.py",
        (STEPS + "vae", "tests/test_models.py::test_vae_energy_is_the_negative_elbo"),
        ("self.generate(gaussian.sample(mu, logvar))", "self.generate(mu)"),
        ("rec + 2 * self.h.decoder_variance * kl", "rec + self.h.decoder_variance * kl"),
        ("self.generate(mu)) / (2 * self.h.decoder_variance)", "self.generate(mu)) / self.h.decoder_variance"),
    ),
    *faults(
        "baselines/wake_sleep.py",
        STEPS + "wake_sleep",
        ("z_x = gaussian.sample(*self.encoder(x))", "z_x = self.encoder(x)[0]"),
        ("mu, logvar = self.encoder(x_fake)", "mu, logvar = self.encoder(x)"),
    ),
    *faults(
        "baselines/svae.py",
        STEPS + "alice_and_svae",
        ("z_x = gaussian.sample(mu, logvar)", "z_x = mu"),
        ("l1_mean(z, gaussian.sample(*self.encoder(x_fake)))", "l1_mean(z, self.encoder(x_fake)[0])"),
        ("for _ in range(h.critic_steps):", "for _ in range(1):"),
        ("adversarial + h.cycle_weight * (cycle_x + cycle_z)", "adversarial + cycle_x + cycle_z"),
        ("            with untracked(self.encoder):\n", "            if True:\n"),
    ),
    *faults(
        "baselines/alice.py",
        STEPS + "alice_and_svae",
        ("z_x = gaussian.sample(mu, logvar)", "z_x = mu"),
        ("pairs.probabilities(a_real, a_fake)", "pairs.logits(a_real, a_fake)"),
        ("adversarial + h.cycle_weight * (cycle_x + cycle_z)", "adversarial + h.cycle_weight * cycle_x + cycle_z"),
    ),
    *faults(
        "baselines/ali.py",
        (STEPS + "ali", NETWORKS + "networks_of_every_system"),
        ("z_x = gaussian.sample(mu, logvar)", "z_x = mu"),
        ("dropout=h.dropout,", "dropout=0.0,"),
        ("batch_norm=h.critic_batch_norm", "batch_norm=False"),
    ),
    *faults(
        "baselines/bigan.py",
        (STEPS + "bigan", NETWORKS + "networks_of_every_system"),
        (
            '        with self.only("maps"):\n            z = torch.randn(len(x), z_dim, device=x.device)\n',
            '        with self.only("maps"):\n',
        ),
        ("pairs.swapped_labels(a_real, a_fake)", "pairs.logits(a_real, a_fake)"),
    ),
    *faults(
        "baselines/dcgan.py",
        STEPS + "dcgan",
        ("bce_generator(self.discriminator(x_fake))", "-bce_generator(-self.discriminator(x_fake))"),
        ("betas = (h.beta1, h.beta2)", "betas = (0.9, h.beta2)"),
    ),
    *faults(
        "baselines/sngan.py",
        (STEPS + "sngan", NETWORKS + "networks_of_every_system"),
        ("loss_g = generator_loss(", "loss_g = -generator_loss("),
        ("spectrally_normalised(critic)", "critic"),
    ),
    *faults(
        "baselines/wgan.py",
        STEPS + "wgan",
        ("h.penalty_weight * terms", "10.0 * terms"),
        ("p.clamp_(-h.clip, h.clip)", "p.clamp_(-1.0, 1.0)"),
        ("t % self.h.n_critic == self.h.n_critic - 1", "t % self.h.n_critic == 0"),
        ("loss = f_fake - f_real", "loss = f_real - f_fake"),
    ),
    *faults(
        "baselines/meg.py",
        STEPS + "meg",
        ("h.penalty_weight * penalty", "penalty"),
        (
            "self.energy(x_fake).mean() + self.unpairing(x_fake, z)",
            "self.energy(x_fake).mean() - self.unpairing(x_fake, z)",
        ),
        ("shuffled)) / 2", "shuffled))"),
        ("t % self.h.n_energy == self.h.n_energy - 1", "t % self.h.n_energy == 0"),
    ),
    *faults(
        "baselines/cegan.py",
        STEPS + "cegan",
        ("h.score_weight * square", "square"),
        ("2 * h.weights_weight", "h.weights_weight"),
        ("h.entropy_weight * latent, clip_norm)", "h.entropy_weight * latent)"),
        ("self.energy(x_fake).mean() + h.entropy", "self.energy(x_fake).mean() - h.entropy"),
        ("(h.decay_until - t) / (h.decay_until - h.decay_from)", "(h.decay_until - t) / h.decay_until"),
    ),
    *faults(
        "baselines/coopnet.py",
        STEPS + "coopnet",
        ("step_size=scale**2 / 2", "step_size=scale**2"),
        ('self.descend("descriptor", f_revised - f_real)', 'self.descend("descriptor", f_real - f_revised)'),
        (
            "distance / (2 * h.generator_std**2)",
            "distance / h.generator_std**2",
            "Adam's step does not change with a factor of its only loss",
        ),
        ("sum(1) / (2 * self.h.reference_std**2)", "sum(1) / (2 * self.h.reference_std)"),
    ),
    *faults(
        "baselines/igebm.py",
        (STEPS + "igebm[28]", STEPS + "igebm[32]"),
        ("langevin(self.energy, dequantised(self.replay", "langevin(self.energy, (self.replay"),
        ("self.energy(dequantised(x))", "self.energy(x)"),
        ("u_real.mean() - u_fake.mean() + h.energy_l2", "u_real.mean() - u_fake.mean() + 1.0"),
        ("u_real.square() + u_fake.square()", "u_real.square()"),
        (
            "Chain(steps, 4 * step_size, 2 * noise, gradient_clip / 2",
            "Chain(steps, 4 * step_size, noise, gradient_clip / 2",
        ),
        ("self.energy_net((x + 1) / 2)", "self.energy_net(x)"),
        ("optimizer.register_step_pre_hook(clip_outliers)", "pass"),
        ("h.noise, h.gradient_clip)", "0.005, h.gradient_clip)"),
    ),
    *faults(
        "dtri/sampling/langevin.py",
        (STEPS + "coopnet", STEPS + "igebm[28]"),
        ("x = x - chain.step_size * gradient", "x = x + chain.step_size * gradient"),
        ("gradient.clamp(-chain.gradient_clip, chain.gradient_clip)", "gradient.clamp(max=chain.gradient_clip)"),
        ("        if chain.noise_first:", "        if not chain.noise_first:"),
    ),
    *faults(
        "dtri/sampling/replay.py",
        (STEPS + "igebm[28]", "tests/test_sampling.py::test_the_oldest_make_room"),
        ("< self.reinit)", "< 0.05)"),
        ("self.stored.clamp(max=self.size)", "self.stored.clamp(max=1)"),
        ("self.stored += len(x)", "self.stored += 1"),
    ),
    *faults(
        "dtri/model.py",
        (*TRIANGLE, STEPS + "dcgan"),
        ("        if clip_norm is not None:", "        if False:"),
        ("if name != player", "if name == player"),
    ),
]

NETWORK = [
    *faults(
        "dtri/networks/convolutional.py",
        "tests/test_networks.py",
        ("kernel, stride, padding, bias=side != 64), nn.Tanh()]", "kernel, stride, padding, bias=side != 64)]"),
        ("if batch_norm and i > 0:", "if batch_norm:"),
        ("        if self.logvar_range is not None:", "        if False:"),
        ("LEAK = 0.2", "LEAK = 0.1"),
        ("64: (Conv(4, 1, 0, 512), Conv(4, 2, 1, 256)", "64: (Conv(4, 1, 0, 512), Conv(4, 2, 1, 512)"),
        ("32: (Conv(3, 1, 1, 64), Conv(4, 2, 1, 128)", "32: (Conv(4, 2, 1, 64), Conv(3, 1, 1, 128)"),
        ("return low + softplus(v - low)", "return v.clamp(min=low)"),
        ("bias=side != 64", "bias=True"),
        ("return max(8, round(channels * width))", "return max(8, int(channels * width))"),
    ),
    *faults(
        "dtri/networks/joint_critic.py",
        "tests/test_networks.py",
        ("        if spectral_norm_last:", "        if spectral_norm:"),
        ("(self.trunk, self.x_branch, self.z_branch, self.joint)", "(self.trunk, self.x_branch, self.joint)"),
        ("z.roll(1, 0)", "z"),
        ("bias=not batch_norm)", "bias=False)"),
        ("nn.Flatten(), *drop, nn.Linear", "nn.Flatten(), nn.Linear"),
    ),
    *faults(
        "dtri/networks/additive_critic.py",
        "tests/test_networks.py",
        ("nn.Linear(hidden, 1, bias=False)", "nn.Linear(hidden, 1)"),
        ("                nn.BatchNorm2d(out),\n", ""),
        ("HIDDEN = 2048", "HIDDEN = 1024"),
    ),
    *faults(
        "dtri/networks/descriptor.py",
        "tests/test_networks.py",
        ("STD = 0.01", "STD = 0.02"),
        ("LAST_SIDE[side], bias=False)", "LAST_SIDE[side])"),
    ),
    *faults(
        "dtri/networks/residual_energy.py",
        "tests/test_networks.py",
        ("self.dropout = nn.Dropout(dropout)", "self.dropout = nn.Dropout(0.0)"),
        ("nn.AvgPool2d(2) if halve", "nn.MaxPool2d(2) if halve"),
        (".relu().sum((2, 3))", ".sum((2, 3))"),
        ("residual = self.gain * self.conv2", "residual = self.conv2"),
        ("(i == 1 and image_side(image_shape) == 64)", "(i == 0 and image_side(image_shape) == 64)"),
        ("TINY = 1e-10", "TINY = 1e-2"),
    ),
    *faults(
        "dtri/networks/standard_cnn.py",
        "tests/test_networks.py",
        ("slope: float = 0.1", "slope: float = 0.2"),
        (
            "32: PUBLISHED,\n    64: replace(PUBLISHED, core=8, end=8),",
            "32: replace(PUBLISHED, slope=0.2),\n    64: replace(PUBLISHED, core=8, end=8),",
        ),
        ("*design.last), nn.Tanh()]", "*design.last)]"),
        ("        normalised=True,\n", ""),
    ),
    *faults(
        "dtri/networks/progressive.py",
        "tests/test_networks.py",
        ("self.head = Dense(self.trunk.channels, 1, gain=1.0)", "self.head = Dense(self.trunk.channels, 1)"),
        ("h = normalise_pixels(leaky_relu(conv(h), LEAK))", "h = leaky_relu(conv(h), LEAK)"),
        ("return torch.tanh(rgb)", "return rgb"),
        ("2 * base // side", "base // side"),
    ),
    *faults(
        "dtri/networks/initialisation.py",
        "tests/test_networks.py",
        ("nn.init.normal_(module.weight, 0.0, 0.02)", "nn.init.normal_(module.weight, 0.0, 0.01)"),
        ("nn.init.normal_(module.weight, 1.0, 0.02)", "nn.init.ones_(module.weight)"),
    ),
    *faults(
        "dtri/networks/batch_norm.py",
        (*TRIANGLE, "tests/test_trained.py::test_averages_of_encoders_are_of_real_images"),
        ("        layer.momentum = 0.0\n", "        layer.momentum = 0.1\n"),
    ),
]

METRICS = [
    *faults(
        "dtri/metrics/generation.py",
        (GENERATION, "tests/test_extractors.py::test_precision_takes_a_random_part_of_a_large_set"),
        ("features[np.sort(rng.choice(len(features), limit, replace=False))]", "features[:limit]"),
        ("splits=1, shuffle=False", "splits=2, shuffle=False"),
        (
            "kid_features_to_metric(sampled.double(), reference.double()",
            "kid_features_to_metric(sampled.double(), sampled.double()",
        ),
        ("prc_features_to_metric(*chosen, ", "prc_features_to_metric(*chosen[::-1], "),
        ("frechet.Gaussian.of(sampled), reference)", "frechet.Gaussian.of(sampled[1:]), reference)"),
        ("PRC_NEIGHBOURS = 3", "PRC_NEIGHBOURS = 5"),
        ("IS_SPLITS = 10", "IS_SPLITS = 5"),
        ("KID_SUBSETS = 100", "KID_SUBSETS = 10"),
        (
            '{"noise": frechet.distance(noisy, reference.gaussian)}',
            '{"noise": frechet.distance(reference.gaussian, reference.gaussian)}',
        ),
    ),
    *faults(
        "dtri/metrics/frechet.py",
        GENERATION,
        ("self.scatter / (self.n - 1)", "self.scatter / self.n"),
        ("- 2 * cross).item()", "- cross).item()"),
        ("(a.mean - reference.mean).square().sum()", "(a.mean - reference.mean).abs().sum()"),
    ),
    *faults(
        "dtri/metrics/classifier.py",
        MEASURING + "the_classifier_is_trained_on_one_split_and_judged_on_the_other",
        (
            "torch.randperm(len(images), generator=generator)])",
            "torch.randperm(len(images), generator=torch.Generator().manual_seed(1))])",
        ),
        ("        schedule.step()\n", ""),
        ("weight_decay=1e-2", "weight_decay=0.0"),
        ("order[:batch_size], order[batch_size:]", "order[:batch_size], order"),
    ),
    *faults(
        "dtri/metrics/ranking.py",
        (RANKING + "each_split_is_ranked_by_its_own_labels", RANKING + "an_auroc_counts_pairs"),
        ("return auc(recall, precision)", "return average_precision_score(labels, scores)"),
        ("[0.025, 0.975]", "[0.05, 0.95]"),
        ("n_positive / len(labels),\n", "0.5,\n"),
        ('positive = -_scores("in', 'positive = _scores("in'),
        ("rng.choice(negative, len(negative))", "rng.choice(negative, len(positive))"),
    ),
    *faults(
        "dtri/metrics/reconstruction.py",
        (
            MEASURING + "reconstruction_errors_are_those_of_the_test_images",
            "tests/test_metrics.py::test_rmse_is_not_the_mean_of_roots",
        ),
        ("return self.mse**0.5", "return self.mse"),
        ("GREY_LEVEL = 1.0 / 127.5", "GREY_LEVEL = 1.0 / 255"),
        ("np.roll(order, 1)", "np.roll(order, 2)"),
    ),
    *faults(
        "dtri/metrics/purity.py",
        "tests/test_landscape_command.py::test_purity_of_perfect_and_of_random_groups",
        ("counts.max(1).sum()", "counts.max(0).sum()"),
        ("np.quantile(permuted, 0.95)", "np.quantile(permuted, 0.05)"),
    ),
]

COMMANDS = [
    *faults(
        "workflow/commands/generation.py",
        GENERATION,
        ('dataset.images(one["reference"])', 'dataset.images("train")'),
        ("generation.measure_each(samples, pairs", 'generation.measure_each(drawn["standing"], pairs'),
        ('[: one["n_reference"]]', ""),
    ),
    *faults(
        "workflow/commands/reconstruct.py",
        MEASURING + "reconstruction_errors_are_those_of_the_test_images",
        (
            "error, count, shown = _reconstructed(model, test)",
            'error, count, shown = _reconstructed(model, dataset.images("train"))',
        ),
        ('mean_image_mse(test, dataset.images("train"))', "mean_image_mse(test)"),
        ("error.mse / 4", "error.mse / 2"),
        ('"running")\n        for map_name', '"standing")\n        for map_name'),
        ("_reconstructed(other, test)[:2]", "_reconstructed(model, test)[:2]"),
    ),
    *faults(
        "workflow/commands/ranking.py",
        (
            RANKING + "each_split_is_ranked_by_its_own_labels",
            RANKING + "an_auroc_counts_pairs",
            RANKING + "auprc_is_the_mean_over_late_weights",
        ),
        ("labels = dataset.labels(split)", 'labels = dataset.labels("test")[: len(scores["energy"])]'),
        ('"auprc_leaky" if leaky else "auprc"', '"auprc"'),
        ('ranking.auroc(scores["energy"], other["energy"])', 'ranking.auroc(other["energy"], scores["energy"])'),
        ("1.0 - result.value", "result.value"),
        ('averaged["value"], protocol', 'each[-1]["value"], protocol'),
        (
            'n_id, n_ood = len(scores["energy"]), len(other["energy"])',
            'n_id, n_ood = len(scores["energy"]), len(scores["energy"])',
        ),
    ),
    *faults(
        "workflow/commands/classifier.py",
        MEASURING + "the_classifier_is_trained_on_one_split_and_judged_on_the_other",
        ('dataset.images("test").copy(), dataset.labels("test")', "train.copy(), labels"),
        ("math.ceil(EPOCHS * len(train) / BATCH)", "math.ceil(len(train) / BATCH)"),
    ),
    *faults(
        "workflow/commands/measuring.py",
        (MEASURING + "a_diverged_run_has_no_value_whatever_is_measured", MEASURING + "a_record_says_whose_value_it_is"),
        ("value=None if self.diverged else value", "value=value"),
        ('status="diverged" if self.diverged else train["status"]', 'status=train["status"]'),
        ('train_code=train["code"]', "train_code=self.code"),
        ("self.why = self.why or why", "self.why = why"),
        ("not math.isfinite(value)", "math.isinf(value)"),
    ),
]

RUN = (ENGINE + "a_run_is_what_its_seeds_say",)
TRAINING = [
    *faults(
        "dtri/stepper.py",
        (*RUN, ENGINE + "a_step_computes_in_its_precision", ENGINE + "schedules_are_functions_of_t"),
        ('derive("step", self.seed, t))', 'derive("step", self.seed))'),
        ('derive("step", self.seed, t))', 'derive("step", t))'),
        ("with autocast(x.device, self.precision):", 'with autocast(x.device, "fp32"):'),
        ("set_rate(self.model.optimizers[name], lr)", "pass"),
    ),
    *faults(
        "dtri/engine.py",
        (*RUN, ENGINE + "weights_before_the_end_are_averages_too", ENGINE + "the_curve_has_about_200_rows_of_means"),
        ('torch.manual_seed(derive("init", seed))', "torch.manual_seed(0)"),
        ('torch.manual_seed(derive("init", seed))', 'torch.manual_seed(derive("init"))'),
        ("snapshots.save(progress.t, ema.snapshot(model))", "snapshots.save(progress.t, model.state_dict())"),
        ("{name: total / self.count for", "{name: total for"),
        ("progress.t % interval == 0 or progress.t == steps)", "progress.t % interval == 0)"),
        ("        model, batches, seed, precision, recorder", "        model, batches, 0, precision, recorder"),
        ("Batches(stored, batch_size, seed,", "Batches(stored, batch_size, 0,"),
    ),
    *faults(
        "dtri/engine.py",
        (ENGINE + "stops_anywhere_change_nothing", ENGINE + "a_run_continues_with_its_memory"),
        ("        tensor.copy_(buffers[name])\n", "        pass\n"),
        ('optimizer.load_state_dict(state["optimizers"][name])', "pass"),
        ('model.load_state_dict(state["model"])', "pass"),
    ),
    *faults(
        "dtri/engine.py",
        (
            ENGINE + "bad_loss_is_found_at_its_iteration",
            ENGINE + "buffers_count_as_weights",
            ENGINE + "memory_that_is_not_finite_ends_a_run",
            ENGINE + "infinite_weights_end_a_run",
        ),
        ("if not math.isfinite(value):", "if math.isnan(value):"),
        ("last_finite = ema.snapshot(model), progress.t", "last_finite = model.state_dict(), progress.t"),
        ("if not norm.isfinite()]", "if norm.isnan()]"),
        ("        if checked and not bad and (term", "        if not checked and not bad and (term"),
    ),
    *faults(
        "dtri/ema.py",
        (
            ENGINE + "averages_of_batch_norm_are_averaged_like_weights",
            ENGINE + "a_run_ends_with_the_moving_average",
            ENGINE + "singular_vectors_are_not_averaged",
        ),
        ('endswith(("running_mean", "running_var"))', 'endswith("running_mean")'),
        ("state.keys() & (parameters | means)", "state.keys() & parameters"),
        ("model.ema_decay, (t + 1) / (t + 10)", "model.ema_decay, (t + 1) / (t + 2)"),
        ("1 - min(model.ema_decay,", "1 - max(model.ema_decay,"),
        ("_copy(self.weights or state)", "_copy(state)"),
    ),
    *faults(
        "dtri/batches.py",
        (*RUN, ENGINE + "every_image_once_per_epoch"),
        ('derive("order", self.seed, epoch)', 'derive("order", self.seed)'),
        ('derive("order", self.seed, epoch)', 'derive("order", epoch)'),
        ("(t * self.batch_size, (t + 1) * self.batch_size)", "((t + 1) * self.batch_size, (t + 2) * self.batch_size)"),
    ),
    *faults(
        "dtri/seeding.py",
        RUN,
        ("digest()[:8]", "digest()[-8:]"),
        ('"big") >> 1', '"little") >> 1'),
        ('separators=(",", ":")', 'separators=(", ", ": ")'),
    ),
    *faults(
        "dtri/images.py",
        (*RUN, "tests/test_igebm.py::test_dequantised_images_keep_their_level"),
        (".div_(127.5).sub_(1.0)", ".div_(255.0)"),
        (".mul(127.5).round()", ".mul(127.5)"),
    ),
]

MAPPED = (LANDSCAPE + "finds_the_minima", LANDSCAPE + "heights_are_the_lower_of_path_and_line")
SCRIPTED = LANDSCAPE + "magnetisation_falls_after_success_and_rises_before_the_first_one_alone"
MAPPING = [
    *faults(
        "dtri/landscape/barriers.py",
        (
            SCRIPTED,
            LANDSCAPE + "both_directions_are_tried",
            LANDSCAPE + "the_lowest_of_all_chains_of_a_pair_counts",
            LANDSCAPE + "a_straight_line_passes_over_the_highest_point_on_it",
        ),
        ("torch.minimum(barrier[place], met)", "met"),
        ("failed[fallen[failed] == 0]", "failed"),
        ("raised < search.max_increases", "raised <= search.max_increases"),
        ("fallen <= search.max_decreases", "fallen < search.max_decreases"),
        ("strength[raisable] *= 2", "strength[raisable] *= 3"),
        ("strength[success] *= search.factor", "strength[success] /= search.factor"),
        (".view(2 * k, -1).amin(0)", ".view(2 * k, -1).amax(0)"),
        (
            "torch.cat([a] * k + [b] * k), torch.cat([b] * k + [a] * k)",
            "torch.cat([a] * 2 * k), torch.cat([b] * 2 * k)",
        ),
        (".tolist()]).amax(0)", ".tolist()]).amin(0)"),
    ),
    *faults(
        "dtri/landscape/attraction_diffusion.py",
        (
            LANDSCAPE + "a_chain_follows_its_equation",
            LANDSCAPE + "a_stray_chain_follows_its_equation",
            LANDSCAPE + "a_chain_that_comes_no_nearer_ends_after_its_patience_or_its_steps",
            LANDSCAPE + "a_barrier_counts_both_ends_and_only_of_successes",
        ),
        ("gradient / walk.temperature + scale", "gradient + scale"),
        ("walk.noise**2 / 2 * drift", "walk.noise**2 * drift"),
        ("scale = (alpha / away)", "scale = alpha"),
        ("(waited < walk.patience)", "(waited <= walk.patience)"),
        ("arrived = away <= walk.reach", "arrived = away <= 2 * walk.reach"),
        ("highest = evaluate(energy, target)\n", "highest = evaluate(energy, start)\n"),
        ("highest = torch.maximum(highest, u)", "highest = torch.minimum(highest, u)"),
        ("range(walk.steps + 1)", "range(walk.steps)"),
        ("walk.noise**2 / (2 * walk.temperature) * gradient", "walk.noise**2 / walk.temperature * gradient"),
        (
            "[distance(x, start), evaluate(energy, x) - evaluate(energy, start)]",
            "[distance(x, start), evaluate(energy, start) - evaluate(energy, x)]",
        ),
    ),
    *faults(
        "dtri/landscape/mapping.py",
        (
            *MAPPED,
            LANDSCAPE + "every_unit_has_noise_of_its_own",
            LANDSCAPE + "the_sensitivity_groups_at_its_own_magnetisation",
            LANDSCAPE + "the_pull_alone_is_recorded_beside_every_magnetisation",
            LANDSCAPE + "the_largest_basins_are_drawn",
            LANDSCAPE + "pairs_take_the_lower_barrier",
            LANDSCAPE + "the_weakest_magnetisation_that_connects_enough",
        ),
        (
            "tree.bottleneck(np.minimum(path_barrier, line_barrier))",
            "tree.bottleneck(np.maximum(path_barrier, line_barrier))",
        ),
        ("                lambda g: torch.minimum(\n", "                lambda g: torch.maximum(\n"),
        ('derive("landscape", self.seed, name)', 'derive("landscape", self.seed)'),
        ("for groups in (pairs.basins(factor * alpha, threshold),)", "for groups in (pairs.basins(alpha, threshold),)"),
        ("pairs.share(factor * alpha),", "pairs.share(alpha),"),
        ("met.isfinite().float().mean().item()", "met.isfinite().float().sum().item()"),
        (
            "(low, middle) if shares[middle] >= wanted else (middle, high)",
            "(middle, high) if shares[middle] >= wanted else (low, middle)",
        ),
        ("top = 2 * self.walk.reach / self.walk.noise**2", "top = self.walk.reach / self.walk.noise**2"),
        ("len(members) >= settings.min_members]", "len(members) > settings.min_members]"),
        ("key=lambda members: (-len(members), members[0])", "key=lambda members: (len(members), members[0])"),
        ("accepted = descents > 0", "accepted = descents > 1"),
        ("if on_edge <= settings.max_on_edge:", "if on_edge >= settings.max_on_edge:"),
    ),
    *faults(
        "dtri/landscape/energy.py",
        (LANDSCAPE + "units", LANDSCAPE + "the_regions_are_what_they_say", LANDSCAPE + "descent_stays_in_its_region"),
        ("(energy(x) - mean) / std", "(energy(x) - mean) / std**2"),
        ("radius * (1 - 1e-4)", "radius * (1 + 1e-4)"),
        ("(radius / x.norm(dim=1, keepdim=True)).clamp(max=1.0)", "(radius / x.norm(dim=1, keepdim=True))"),
        ("torch.where(on_edge(x)[:, None], direction - outward * normal, direction)", "direction - outward * normal"),
        ("return (x - y).flatten(1).norm(dim=1)", "return (x - y).flatten(1).norm(dim=1, p=1)"),
    ),
    *faults(
        "dtri/landscape/grouping.py",
        (
            LANDSCAPE + "grouping_takes_the_lowest_barrier_to_a_representative",
            LANDSCAPE + "consolidation_joins_representatives",
        ),
        ("heights[best] - energies[n] <= threshold", "heights[best] <= threshold"),
        ("np.argmin(heights)", "np.argmax(heights)"),
        ("height - energies[higher] <= threshold", "height - energies[lower] <= threshold"),
    ),
    *faults(
        "dtri/landscape/tree.py",
        LANDSCAPE + "bottleneck_and_tree_agree",
        (
            "np.minimum(lowest, np.maximum(lowest[:, k, None], lowest[None, k, :]))",
            "np.minimum(lowest, lowest[:, k, None] + lowest[None, k, :])",
        ),
        ("sets.pop(merge.right)), key=min)", "sets.pop(merge.right)), key=max)"),
    ),
    *faults(
        "dtri/landscape/minima.py",
        (
            LANDSCAPE + "the_same_minimum_needs_place_and_energy",
            LANDSCAPE + "a_false_minimum_is_descended_again",
            LANDSCAPE + "the_shortest_vector_of_a_hull",
            LANDSCAPE + "descent_on_a_kink_converges",
        ),
        ("(distance(x[others], x[i]) < near) & (u[i] - u[others] < tolerance)", "(distance(x[others], x[i]) < near)"),
        ("lowest >= height - check.tolerance", "lowest >= height + check.tolerance"),
        ("passed = converged & (", "passed = ("),
        ("return direction(weights)", "return -direction(weights)"),
    ),
    *faults(
        "workflow/commands/landscape.py",
        (
            MAPS + "the_unit_is_the_spread_of_test_images",
            MAPS + "the_region_holds_the_latents_of_training_images",
            MAPS + "starts_carry_the_labels_of_their_images",
            MAPS + "the_purity_is_that_of_the_starts",
            MAPS + "noise_is_the_runs",
        ),
        ('dataset.images("test")[:REFERENCE]', 'dataset.images("train")[:REFERENCE]'),
        ("settings.region_margin * norms", "norms"),
        ('dataset.labels("train")[chosen]])', 'dataset.labels("train")[: len(chosen)]])'),
        ("purity(group[inside], labels[inside],", "purity(group[inside], labels[: inside.sum()],"),
        ('derive("landscape", spec.dataset, spec.model, spec.seed)', 'derive("landscape", spec.dataset, spec.model)'),
    ),
]
TRAIN = "tests/test_train_command.py::test_"
FURTHER_COMMANDS = [
    *faults(
        "workflow/commands/train.py",
        (TRAIN + "it_trains_on_the_training_images", TRAIN + "outputs"),
        ('            dataset.images("train"),\n', '            dataset.images("test"),\n'),
        ("seed=spec.seed,", "seed=0,"),
        ("batch_size=spec.batch_size,", "batch_size=16,"),
        (
            'save_weights(arguments.out / "model.safetensors", outcome.weights, spec)',
            'save_weights(arguments.out / "model.safetensors", outcome.model.state_dict(), spec)',
        ),
    ),
    *faults(
        "workflow/commands/score.py",
        (
            TRAIN + "late_weights_are_kept_and_scored",
            TRAIN + "an_energy_with_batch_norm_is_scored_by_the_statistics_of_batches_too",
        ),
        ("images = dataset.images(split)", 'images = dataset.images("train")'),
        ("anomaly.scores(by_batch, images)", "anomaly.scores(model, images)"),
        ("anomaly.scores(snapshot, images)", "anomaly.scores(model, images)"),
    ),
    *faults(
        "workflow/commands/sample.py",
        (
            "tests/test_sample_command.py::test_samples",
            "tests/test_sample_command.py::test_variants_are_by_the_other_rules_of_batch_norm",
        ),
        ('trained.load(arguments.model, device, "standing")', 'trained.load(arguments.model, device, "running")'),
        (
            "partial(evaluation.sample, other, arguments.n, seed)",
            "partial(evaluation.sample, model, arguments.n, seed)",
        ),
    ),
    *faults(
        "dtri/trained.py",
        "tests/test_trained.py::test_statistics_are_those_of_the_prior",
        ("layer.momentum = None", "layer.momentum = 0.1"),
        ("        layer.reset_running_stats()\n", ""),
    ),
    *faults(
        "dtri/evaluation.py",
        (
            "tests/test_sample_command.py::test_latents_do_not_depend_on_their_number",
            MEASURING + "reconstruction_errors_are_those_of_the_test_images",
        ),
        ("return model.generate(model.infer(x))", "return model.generate(0 * model.infer(x))"),
        ('derive("latents", seed, k)', 'derive("latents", k)'),
    ),
    *faults(
        "dtri/anomaly.py",
        TRAIN + "late_weights_are_kept_and_scored",
        ("score[:count].double()", "-score[:count].double()"),
    ),
]
SAFETY = [
    *faults(
        "dtri/files.py",
        (
            "tests/test_files.py::test_content_then_name_then_folder_are_synced",
            "tests/test_files.py::test_a_failed_write_keeps_the_old_file_and_leaves_nothing",
        ),
        ("            os.fsync(file.fileno())\n", "            pass\n"),
        ("        _sync_folder(path.parent)\n", ""),
        ("        temporary.unlink(missing_ok=True)\n", "        pass\n"),
    ),
]
VERDICTS = [
    *faults(
        "dtri/report/tidy.py",
        tuple(
            f"tests/test_report.py::test_{name}"
            for name in (
                "verdict_follows_tolerance_and_direction",
                "a_difference_equal_to_the_tolerance_counts_as_reproduced",
                "a_verdict_needs_all_seeds",
                "a_run_that_diverged_after_training_says_why",
                "status",
                "mean_and_sample_deviation",
                "one_incomparable_seed_makes_the_row_incomparable",
                "a_warning_is_marked_and_not_compared",
                "a_printed_value_that_this_split_cannot_give_is_not_compared_with",
                "gpu_hours_add_up_and_are_empty_on_a_cpu",
                "no_verdict_without_both_numbers",
            )
        ),
        ("abs(difference) <= cell.tolerance", "abs(difference) < cell.tolerance"),
        ("round(average - cell.published, 9)", "average - cell.published"),
        ('(difference < 0) == (cell.direction == "lower")', '(difference > 0) == (cell.direction == "lower")'),
        ('if status == "measured" else ""\n    images', 'if status != "missing" else ""\n    images'),
        ("comparable = all(f.comparable for f in shown)", "comparable = any(f.comparable for f in shown)"),
        ("and not against_printed and not warning", "and not against_printed"),
        ("cell.published < minimum", "cell.published > minimum"),
        (
            "current = [f for f in found if f.record is not None and not f.stale]",
            "current = [f for f in found if f.record is not None]",
        ),
        ("average = mean(values)", "average = max(values)"),
        ("return sum(known) if known else None", "return mean(known) if known else None"),
        ('return record.value is None or record.status == "diverged"', 'return record.status == "diverged"'),
    ),
    *faults(
        "workflow/status.py",
        "tests/test_plan.py::test_records_of_other_runs_comparisons_and_networks_are_stale",
        ("record.spec, specs.train_spec(run).hash", "record.spec, record.spec"),
        ("record.train_code, jobcode.training_code(run)", "record.train_code, record.train_code"),
        ("record.code, jobcode.measure_code(metric, run.model)", "record.code, record.code"),
    ),
    *faults(
        "workflow/specs.py",
        RELATIONS + "hold_outs_keep_the_weights_of_ten_epochs",
        ("late_every=_late_every(steps) if data.digit is not None else 0", "late_every=0"),
        ("max(1, steps // 50)", "max(1, steps // 20)"),
    ),
]
SETTINGS = [
    *faults(
        "workflow/config/models.yaml",
        (
            RELATIONS + "learning_rates_fall_once_per_epoch",
            RELATIONS + "steps_are_epochs",
            RELATIONS + "weights_of_the_joint_models",
        ),
        ("celeba: {steps: 135000, hparams: {gamma_every: 90}}", "celeba: {steps: 135000, hparams: {gamma_every: 500}}"),
        (
            "  entry: dtri.models.divergence_triangle:DivergenceTriangle\n  steps: 750000",
            "  entry: dtri.models.divergence_triangle:DivergenceTriangle\n  steps: 250000",
        ),
        (
            "mnist_holdout: {steps: 25000, hparams: {<<: *joint_28, gamma_every: 500}}",
            "mnist_holdout: {steps: 25000, hparams: {<<: *joint_28, gamma_every: 600}}",
        ),
        (
            "energy_weight: 0.1, prior_weight: 0.01, entropy_weight: 0.02}",
            "energy_weight: 0.1, prior_weight: 0.01, entropy_weight: 0.01}",
        ),
        ("{rec_weight: 0.0125, prior_weight: 1.25e-4}", "{rec_weight: 0.0125, prior_weight: 5.0e-4}"),
    ),
    *faults(
        "workflow/config/models.yaml",
        (
            RELATIONS + "cegan_ends_where_its_learning_rates_do",
            RELATIONS + "chains_of_igebm_are_as_long_as_those_of_its_buffer",
            RELATIONS + "growth_begins_with_the_batches_of_its_first_level",
        ),
        ("decay_from: 30000, decay_until: 60000", "decay_from: 39100, decay_until: 78200"),
        ("sampler: {steps: 400}", "sampler: {steps: 60}"),
        ("steps: 3264284\n  batch_size: 16", "steps: 3264284\n  batch_size: 32"),
    ),
    *faults(
        "workflow/config/datasets.yaml",
        RELATIONS + "samples_are_compared_as_published",
        (
            "  generation:\n    n_samples: 50000\n    reference: train\n",
            "  generation:\n    n_samples: 50000\n    reference: test\n",
        ),
        (
            "    n_samples: 10000\n    reference: train\n    n_reference: 10000\n",
            "    n_samples: 10000\n    reference: train\n",
        ),
    ),
    *faults(
        "workflow/config/presets.yaml",
        RELATIONS + "presets_shorten_to_what_they_say",
        (", models: {divergence_triangle_landscape: 2000}}", "}"),
        ("holdout_share: 0.02", "holdout_share: 0.04"),
        ("seeds: [0, 1, 2]\n  extractor: inception", "seeds: [0]\n  extractor: inception"),
    ),
]
FAULTS = [*LOSSES, *NETWORK, *TRAINING, *METRICS, *COMMANDS, *FURTHER_COMMANDS, *MAPPING, *VERDICTS, *SETTINGS, *SAFETY]
