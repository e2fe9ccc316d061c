"""Arguments of an energy landscape mapping. Paper B gives none; Hill, Nijkamp & Zhu (2018) name most of them.

Energies are in units of their standard deviation over test images. The plan reads this file, so it imports no torch.
"""

import json
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class Settings:
    """The arguments that the configuration may set, with defaults. Lengths are distances in the mapped space."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # where the configuration is read

    # U(g(z)) in a ball, or U(x) in [-1, 1]^n. The ball's radius is `region_margin` times a quantile of |mu(x)| over
    # training images. It is doubled while more minima than `max_on_edge` lie on its sphere, which cuts basins off.
    space: Literal["latent", "image"] = "latent"
    region_quantile: float = 0.99
    region_margin: float = 1.5
    region_doublings: int = 3  # largest number of doublings; more minima on the last sphere are an error
    max_on_edge: float = 0.05  # fraction of the minima

    # Starts of descents: prior samples, training images, and reconstructions of training images.
    from_samples: int = 200
    from_images: int = 150
    from_reconstructions: int = 150

    # Descent by gradient sampling, and the random search that checks its ends.
    descent_steps: int = 200
    gradient_samples: int = 32  # twice the number of latents
    sampling_radius: float = 0.1
    smallest_radius: float = 1e-3
    descent_tolerance: float = 1e-3
    descents: int = 4  # largest number of descents of a chain; each but the first follows a failed check
    check_rounds: int = 20
    check_points: int = 32
    same_distance: float = 0.02  # in units of the starts' median distance: nearer minima of the same energy are one
    same_energy: float = 0.02  # a check fails if the energy falls by more

    # Attraction-diffusion.
    # Steps of noise^2 / 2 (|gradient| / temperature + alpha) have to be short compared with the width of a pass. A flat
    # energy resists pulls up to d / reach. The lower the temperature, the stronger the pull that barriers resist.
    noise: float = 0.03  # standard deviation of one step in each coordinate
    temperature: float = 0.005
    reach: float = 0.05  # delta, in units of the starts' median distance; nearer minima are not told apart
    patience: int = 50  # M
    walk_steps: int = 500
    trials: int = 3  # K, chains in each direction
    calibration_pairs: int = 100  # random pairs of minima on which alpha is chosen
    connected: float = 0.3  # fraction of these pairs that alpha should connect

    # Grouping, and what is drawn.
    # tau: highest barrier above the higher minimum inside a basin. In 16 dimensions thermal noise alone lifts a chain
    # by 16 T / 2 = 0.04, and its highest point by more. A smaller tau joins no two minima.
    threshold: float = 0.4
    min_members: int = 3  # basins with fewer minima are dropped, and counted
    max_basins: int = 15  # number of basins drawn, the largest ones that are kept; the others are counted
    alpha_factors: tuple[float, ...] = (0.5, 1.0, 2.0)  # for the sensitivity to magnetisation
    thresholds: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8, 1.6)  # for the sensitivity to tau

    # Barriers between the kept basins.
    alpha_factor: float = 0.97  # alpha is lowered by 3 % after each success
    alpha_max_increases: int = 6  # doublings until a pair connects
    alpha_max_decreases: int = 100

    chunk: int = 100  # descents that run, and are saved, together

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            numbers = value if isinstance(value, tuple) else () if isinstance(value, str) else (value,)
            if any(not number > 0 for number in numbers) and not name.startswith("from_"):
                raise ValueError(f"expected a positive number for {name}, found {value!r}")
        if min(self.from_samples, self.from_images, self.from_reconstructions) < 0 or self.starts < 2:
            raise ValueError(f"expected two starts or more, none of a kind below 0, found {self.starts} in all")
        if 1.0 not in self.alpha_factors:
            raise ValueError(f"expected 1.0 among alpha_factors, found {self.alpha_factors}")
        for name in ("alpha_factor", "connected", "region_quantile"):
            if not getattr(self, name) < 1:
                raise ValueError(f"expected {name} below 1, found {getattr(self, name)}")

    @property
    def of_walks(self) -> dict[str, object]:
        """The settings of descents and walks: results are kept where only the grouping or the drawing changes."""
        grouping = {"threshold", "thresholds", "alpha_factors", "min_members", "max_basins"}
        return {name: value for name, value in asdict(self).items() if name not in grouping}

    @property
    def starts(self) -> int:
        return self.from_samples + self.from_images + self.from_reconstructions

    @classmethod
    def parse(cls, text: str) -> "Settings":
        """Settings from JSON; ValueError when it does not fit."""
        try:
            fields = json.loads(text)
            return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()})
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"expected landscape settings as JSON, found {text[:200]!r} ({error})") from error
