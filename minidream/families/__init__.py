"""The family tree: other ways for a language model to read and paint pictures, one small file each.

Every family starts from the same pretrained parts, learns from the same samples within the same
budget of steps, and is scored on the same questions, so that their results fit into one table. A
family that needs a painter of image states has the same budget once more for that.

Shared by all families:

- `samples.py`: what a family learns from and is asked; `boxes.py`: boxes written as words.
- `family.py`: the base class `Family`, the budget `FamilyPlan` and the pretrained model.
- `cross_attention.py`: for families whose pictures enter beside the text.
- `image_decoder.py`: for families that say what CLIP would see: the painter of that.
- `evaluation.py`: how replies are scored.

Every other file holds one family, or a few close relatives. `python -m minidream.studies families
all` trains and evaluates them: `studies/family_runs.py` makes the runs, `studies/family_table.py`
the table.

Paper: section 4 and appendix (related work); sections 2.1 and 5.1 for the claims that the table
tests.
"""
