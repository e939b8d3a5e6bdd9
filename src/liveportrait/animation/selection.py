"""The driver that moves each of the chosen faces."""

from __future__ import annotations

from liveportrait.errors import UserError
from liveportrait.face.choice import parse_numbers


def assign_drivers(faces: int, drivers: int, assign: str) -> tuple[int, ...]:
    """Which driver (from 0) moves each face, in the order of the chosen faces.

    `assign` names them from 1, such as "2,1,1"; "" stands for one driver for all, or the first for the first face,
    the second for the second, and so on. Raises `UserError` where numbers do not fit.
    """
    there = f"{faces} chosen {'face' if faces == 1 else 'faces'} of SOURCE"
    if assign:
        numbers = parse_numbers(assign, "assign", "a number of DRIVING for each face such as 2,1,1")
        if len(numbers) != faces:
            raise UserError(f"assign names {len(numbers)} of DRIVING for {there}: name one for each")
        for number in numbers:
            if not 1 <= number <= drivers:
                raise UserError(f"assign names DRIVING {number}, but {drivers} are given: count them from 1")
        unused = sorted(set(range(1, drivers + 1)) - set(numbers))
        if unused:
            raise UserError(f"assign leaves DRIVING {unused[0]} without a face: name it, or leave it out")
        return tuple(number - 1 for number in numbers)
    if drivers == 1:
        return (0,) * faces
    if drivers > faces:
        raise UserError(
            f"{drivers} of DRIVING are too many for {there}: leave some out, or choose more with --faces"
        )
    if drivers < faces:
        raise UserError(
            f"{drivers} of DRIVING are too few for {there}: give one for each, one for all, or say with --assign"
            " which moves which"
        )
    return tuple(range(faces))
