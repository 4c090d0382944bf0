"""MetaQueries: which queries attend to which, and one model for painting and talking."""

import torch
from families_shared import RING, build, noise, tiny_llm

from minidream import llm as llms
from minidream.documents import Document, lay_out
from minidream.families import metaqueries
from minidream.trainer.lessons import pictures
from minidream.weights import toy


def test_queries_attend_to_one_another_within_their_block_only():
    llm = tiny_llm()
    plain, embeddings = llm(noise(2, 7, 8)), noise(2, 7, 8)
    watchers = []
    for layer in llm.layers:
        layer.self_attn.attend = metaqueries.BidirectionalQueries(layer.self_attn.attend)
        watchers.append(layer.self_attn.attend)
    assert torch.equal(llm(embeddings), plain)  # without blocks nothing changes
    for watcher in watchers:
        watcher.blocks, watcher.queries = (
            [(0, 2), (1, 4)],
            3,
        )  # tokens 2 to 4 of row 0, 4 to 6 of row 1
    before = llm(embeddings)
    changed = embeddings.clone()
    changed[:, 4] += 1  # the last query of row 0, the first of row 1
    moved = (llm(changed) - before).abs().amax(dim=-1) > 1e-4
    assert moved.tolist() == [
        [False, False, True, True, True, True, True],
        [False, False, False, False, True, True, True],
    ]
    changed = embeddings.clone()
    changed[:, 6] += 1  # a word after the queries of row 0, the last query of row 1
    moved = (llm(changed) - before).abs().amax(dim=-1) > 1e-4
    assert moved.tolist() == [[False] * 6 + [True], [False] * 4 + [True] * 3]
    # The same with a cache: the words first, the queries and what follows then.
    cache = llms.Cache()
    for watcher in watchers:
        watcher.blocks = []
    llm(embeddings[:1, :2], cache=cache)
    for watcher in watchers:
        watcher.blocks = [(0, 0)]
    torch.testing.assert_close(
        llm(embeddings[:1, 2:], cache=cache), before[:1, 2:], rtol=1e-4, atol=1e-5
    )


def test_a_bidirectional_model_paints_from_a_prompt_as_from_a_batch_and_still_talks():
    system = build("metaqueries-bidirectional")
    model, prompts = system.model, ["a small red circle", "a large blue star on a white background"]
    together = model.encode(prompts)
    torch.testing.assert_close(together[1:], model.encode(prompts[1]), rtol=1e-4, atol=1e-4)
    causal = build("metaqueries").model.encode(prompts)
    assert (causal - together).abs().max() > 1e-2
    assert isinstance(model.chat("what color is the thing?", max_new_tokens=2), str)
    document = Document([prompts[1], pictures([RING], toy.IMAGE_SIZE)[0]], targets=[0])
    layout = lay_out(
        document,
        model.tokenizer,
        model.queries,
        model.vision.patches,
        learn_text=False,
        read_last=False,
    )
    batch, hidden = model.read([layout], [document])
    torch.testing.assert_close(
        hidden[:, batch.queries[0][1] :][:, : model.queries], together[1:], rtol=1e-4, atol=1e-4
    )  # as in training
