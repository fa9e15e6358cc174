"""The settings of the task by name: a law of force and a number of particles."""

import re
from dataclasses import dataclass

from .systems import LAWS

# Names of the laws as the published tables write them: electrostatics, with gravity, with a Lorentz force.
LAW_NAMES = {"es": "charged", "g+es": "gravity", "l+es": "lorentz", "springs": "springs"}
# Published numbers of epochs.
EPOCHS = {"es5": 400, "es20": 600, "g+es20": 200, "l+es20": 600}
OTHER_EPOCHS = 400
# Of the best recipe, by the validation error of trainings of several lengths; with more it overfits.
BEST_EPOCHS = {"es5": 80, "es20": 200, "g+es20": 200, "l+es20": 240}
OTHER_BEST_EPOCHS = 80


@dataclass(frozen=True)
class Setting:
    """A law of force and a number of particles.

    Attributes:
        name: such as ``"es5"``, ``"g+es20"`` or ``"springs8"``.
        kind: of ``simulate``.
        n_particles: number of particles.
    """

    name: str
    kind: str
    n_particles: int

    @property
    def has_gravity(self) -> bool:
        """Whether a constant force acts: systems mirrored in the origin then obey another law."""
        return any(LAWS[self.kind].gravity)

    @property
    def has_magnetic_field(self) -> bool:
        """Whether a Lorentz force acts: the centre of mass then moves neither straight nor in a parabola."""
        return any(LAWS[self.kind].magnetic_field)

    @property
    def epochs(self) -> int:
        """Published number of epochs; that of es5 where none is published."""
        return EPOCHS.get(self.name, OTHER_EPOCHS)

    @property
    def best_epochs(self) -> int:
        """Number of epochs of the best recipe; that of es5 where none was looked for."""
        return BEST_EPOCHS.get(self.name, OTHER_BEST_EPOCHS)


def setting(name: str) -> Setting:
    """The setting of a name: es, g+es, l+es or springs, and the number of particles.

    Raises:
        ValueError: the name has another form.
    """
    match = re.fullmatch(r"(es|g\+es|l\+es|springs)([1-9]\d*)", name)
    if match is None:
        raise ValueError(
            f"a setting must be es, g+es, l+es or springs with a number of particles, as es5; got {name!r}."
        )
    return Setting(name, LAW_NAMES[match[1]], int(match[2]))
