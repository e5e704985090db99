"""Image files of one object put together: images of all bands, and the masks and noise maps beside them."""

from __future__ import annotations

from dataclasses import dataclass, field

from etl.image_names import MASK, NOISE, SCIENCE, Name, parse_name


@dataclass(frozen=True)
class ImageOptions:
    """What the command says of its files: their survey, and bands where the files do not say."""

    survey: str
    bands: tuple[str, ...] | None = None


@dataclass
class Group:
    """The files of one cutout: science images, and the masks and noise maps beside them."""

    key: str
    science: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """All of them."""
        return [*self.science, *self.beside]


def group_files(paths: list[str]) -> tuple[list[Group], list[str]]:
    """Put files of one object together.

    Returns
    -------
    groups : list of Group
        In the order of their first file.
    others : list of str
        PSFs, and masks and noise maps without an image: read only beside an image.
    """
    groups: dict[str, Group] = {}
    by_object: dict[str, list[str]] = {}
    beside: list[tuple[str, Name]] = []
    others: list[str] = []
    for path in paths:
        name = parse_name(path)
        if name.role == SCIENCE:
            if name.group not in groups:
                by_object.setdefault(name.group.replace("_*", "").replace("*", ""), []).append(name.group)
            groups.setdefault(name.group, Group(name.group)).science.append(path)
        elif name.role in (NOISE, MASK):
            beside.append((path, name))
        else:
            others.append(path)
    for path, name in beside:
        keys = [name.group] if name.group in groups else by_object.get(name.group, [])
        for key in keys:
            groups[key].beside.append(path)
        if not keys:
            others.append(path)
    return list(groups.values()), others
