"""Arguments of an energy landscape mapping. Paper B gives none; Hill, Nijkamp & Zhu (2018) give the kind of most.

Energies are in units of their standard deviation over test images. Imports no torch: the plan reads this file.
"""

import json
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class Settings:
    """What the configuration may set, and what it sets by default. Lengths are those of the space that is mapped."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # where the configuration is read

    space: Literal["latent", "image"] = "latent"  # U(g(z)) in the ball |z| <= sqrt(d), or U(x) in [-1, 1]^n

    # Starts of descents; those of the last two kinds are training images and their reconstructions.
    from_samples: int = 200
    from_images: int = 150
    from_reconstructions: int = 150

    # Descent: Adam, its step size halved whenever `descent_patience` steps bring less than `descent_tolerance`.
    descent_steps: int = 3000
    step_size: float = 0.05
    smallest_step_size: float = 1e-3
    descent_tolerance: float = 1e-3
    descent_patience: int = 20
    same_distance: float = 0.02  # of the starts' median distance: nearer minima of the same energy are one
    same_energy: float = 0.02

    # Attraction-diffusion.
    noise: float = 0.07  # standard deviation of one step in each coordinate
    temperature: float = 0.02
    reach: float = 0.1  # delta, of the median distance of minima
    patience: int = 50  # M
    walk_steps: int = 500
    trials: int = 3  # K, in each direction
    calibration_pairs: int = 100  # random pairs of minima on which alpha is chosen
    connected: float = 0.3  # share of them that it should connect

    # Grouping, and what is drawn.
    # tau: highest barrier above the higher minimum inside a basin. Thermal noise alone lifts a chain in 16 dimensions
    # by 16 T / 2 = 0.16, its highest point by more: a tau below that joins no two minima, whatever lies between them.
    threshold: float = 0.4
    min_members: int = 3  # basins with fewer minima are dropped, and counted
    max_basins: int = 15  # so many of the largest are kept, the others counted
    alpha_factors: tuple[float, ...] = (0.5, 1.0, 2.0)  # of the sensitivity to magnetisation
    thresholds: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8, 1.6)  # of the sensitivity to tau

    # Barriers between the basins kept.
    alpha_factor: float = 0.97  # alpha is lowered by 3 % after each success
    alpha_raises: int = 6  # doublings until a pair connects
    alpha_falls: int = 100

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
        if not (self.alpha_factor < 1 and self.connected < 1):
            raise ValueError(
                f"expected alpha_factor and connected below 1, found {self.alpha_factor} and {self.connected}"
            )

    @property
    def of_walks(self) -> dict[str, object]:
        """What descents and walks depend on: they are remembered where only the grouping or the drawing changes."""
        grouping = {"threshold", "thresholds", "alpha_factors", "min_members", "max_basins"}
        return {name: value for name, value in asdict(self).items() if name not in grouping}

    @property
    def starts(self) -> int:
        return self.from_samples + self.from_images + self.from_reconstructions

    @classmethod
    def parse(cls, text: str) -> "Settings":
        """From JSON; ValueError when it does not fit."""
        try:
            fields = json.loads(text)
            return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()})
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"expected landscape settings as JSON, found {text[:200]!r} ({error})") from error
