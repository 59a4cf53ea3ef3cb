"""What the values of widgets that several nodes share mean to the library."""

from __future__ import annotations


def test_faces_are_chosen_by_size_number_or_place(host) -> None:
    choice = host.module("nodes.inputs").face_choice
    size = (100, 200)  # height, width
    assert choice("largest", 2, 0.25, 0.75, size) == "largest"
    assert choice("index", 2, 0.25, 0.75, size) == 2
    assert choice("nearest to point", 2, 0.25, 0.75, size) == (50.0, 75.0)


def test_fixed_references_are_the_papers_three(host) -> None:
    choice = host.module("nodes.inputs").reference_choice
    assert choice("fixed", 64, "mode") == (3, True)
    assert choice("nearest mouth", 64, "mode") == (64, False)
