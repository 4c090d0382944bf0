"""Numbers that users give: every form of one number is taken, and everything else is refused."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from minidream.images import as_integer, as_number


@pytest.mark.parametrize(
    "value",
    [3, 3.0, Fraction(3), np.int8(3), np.float16(3), np.array(3), np.array([[3.0]])]
    + [torch.tensor(3), torch.tensor([3.0], dtype=torch.bfloat16)],
    ids=lambda value: repr(value).split(" at 0x")[0],
)
def test_one_number_is_taken_in_every_form(value):
    assert type(as_integer("n", value, 3, 3)) is int and as_integer("n", value) == 3
    assert type(as_number("n", value)) in (int, float) and as_number("n", value, 3, 3) == 3


def test_large_integers_stay_exact():
    assert as_integer("n", 2**64 - 1, -(2**63), 2**64 - 1) == 2**64 - 1
    assert as_integer("n", np.uint64(2**64 - 1)) == 2**64 - 1
    assert as_integer("n", 10**400) == 10**400  # beyond every float


@pytest.mark.parametrize(
    "value",
    [True, np.bool_(True), torch.tensor(True), "3", b"3", None, [3], (3,), 3j, np.array("3")]
    + [torch.Generator(), torch.tensor([3, 3]), torch.zeros(0), np.array([None])],
    ids=lambda value: repr(value).split(" at 0x")[0],
)
def test_what_is_not_one_number_is_refused(value):
    for check in (as_integer, as_number):
        with pytest.raises(TypeError, match=f"steps is a number, not a {type(value).__name__}: "):
            check("steps", value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), torch.tensor(-torch.inf)])
def test_numbers_are_finite(value):
    for check in (as_integer, as_number):
        with pytest.raises(ValueError, match="scale is a finite number, not -?(nan|inf)"):
            check("scale", value)


@pytest.mark.parametrize(
    "value",
    [10**400, -(10**5000), Fraction(10**400), -Fraction(10**5000)],
    ids=["int", "-int", "fraction", "-fraction"],
)
def test_numbers_beyond_every_float_are_refused_by_name(value):
    with pytest.raises(ValueError, match="scale is a finite number, not -?(2 to the |inf)"):
        as_number("scale", value)
    for check in (as_integer, as_number):
        with pytest.raises(
            ValueError, match="^scale is (between 0 and 9, and|a finite number,) no"
        ):
            check("scale", value, 0, 9)


@pytest.mark.parametrize(
    "value",
    [torch.tensor(3, device="meta"), torch.tensor([3.0]).to_sparse()],
    ids=["meta", "sparse"],
)
def test_a_tensor_without_a_number_in_memory_is_refused_by_name(value):
    for check in (as_integer, as_number):
        with pytest.raises(TypeError, match="steps is a number, not a Tensor that is "):
            check("steps", value)


def test_a_range_includes_its_ends_and_errors_give_both_numbers():
    assert as_number("n", 0.5, 0.5) == as_number("n", 0.5, most=0.5) == 0.5
    with pytest.raises(ValueError, match="n is between 1 and 3, and not 4"):
        as_integer("n", 4.0, 1, 3)
    with pytest.raises(ValueError, match="n is at least 0, and not -0.25"):
        as_number("n", -0.25, 0)
    with pytest.raises(ValueError, match="n is at most 1, and not 1.5"):
        as_number("n", np.float64(1.5), most=1)
    with pytest.raises(ValueError, match="n is a whole number, not 2.5"):
        as_integer("n", 2.5, 0, 9)
