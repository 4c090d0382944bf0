"""The results of the probing study as tables in Markdown; all numbers are per cent."""

from collections.abc import Callable, Sequence

from ..world.stories import NAMING
from .intervals import holm
from .probing_edits import CUTS
from .probing_edits import KINDS as EDITS
from .probing_knockout import CONTROLS
from .probing_map_shares import (
    ROLES,
    chance,
    counts_of_queries,
    edited,
    map_against_controls,
    painted_as_thought,
    pointing_differences,
    pointing_shares,
    profile_similarity,
    profile_values,
    readable_curves,
    thinking_helps,
    told_before,
    told_by,
    transfer_share,
)
from .probing_pairs import WORDS
from .probing_pointing import KINDS
from .probing_roles import STAGES
from .probing_shares import (
    KEPT,
    Share,
    curve,
    difference_of,
    flags,
    kept,
    p_value_of,
    runs_of,
    share_of,
)
from .probing_tracing_shares import (
    mean_losses,
    restored,
    restored_by_head,
    restored_together,
)
from .tables import markdown_table

INTERVAL = "% [95 % interval]"
WORD_KINDS = tuple(dict.fromkeys(kind for kind, _ in WORDS))
LETTERS = {
    "R": "right",
    "N": "no change",
    "W": "the other",
    "B": "both",
    "en": "partly",
    "x?": "else",
}


def percent(triple: tuple[float, float, float]) -> str:
    """A number with its interval."""
    return "{:.0f} [{:.0f}, {:.0f}]".format(*(100 * number for number in triple))


def rights(width: int) -> list[str]:
    """The alignment of a table with one column of names."""
    return ["left"] + ["right"] * width


def tracing_tables(results: dict) -> str:
    """What patches restore, by kind of word, row and point; heads; and what is painted."""
    run = next(iter(runs_of(results, "tracing").values()))
    points = [point.removeprefix("llm.").removesuffix(".resid_post") for point in run["points"]]
    rows = [row for row in run["losses"] if row not in ("own", "donor")]
    lines = []
    for kind in (None, *WORD_KINDS):
        lines += [
            [f"{row}, {kind or 'all'}", *map(percent, restored(results, row, kind))] for row in rows
        ]
    losses = markdown_table(
        [f"of the way to the donor's loss, {INTERVAL}, after layer", *points],
        lines,
        rights(len(points)),
    )
    absolute = markdown_table(
        ["mean loss of the donor's picture, in 1e-4", "under the prompt", "under the donor"],
        [[kind, *(f"{loss:.0f}" for loss in mean_losses(results, kind))] for kind in WORD_KINDS],
        rights(2),
    )
    painted = [row for row in run["verdicts"] if row not in ("own", "donor")]
    lines = [
        [f"{row}, {kind}", *map(str, painted_curve(results, row, kind))]
        for row in painted
        for kind in WORD_KINDS
    ]
    pictures = markdown_table(
        [f"pictures with the donor's word, {INTERVAL}, after layer", *points],
        lines,
        rights(len(points)),
    )
    return "\n\n".join([losses, absolute, heads_tables(results), pictures])


def heads_tables(results: dict) -> str:
    """The heads that restored most on even prompts, as measured on odd ones, alone and together."""
    run = next(iter(runs_of(results, "tracing").values()))
    strongest = []
    for row in run["heads"]:
        chosen, measured = (restored_by_head(results, row, half=half) for half in (0, 1))
        places = [(layer, head) for layer, heads in enumerate(chosen) for head in range(len(heads))]
        places.sort(key=lambda place: -chosen[place[0]][place[1]][0])
        strongest += [
            [f"{row}, layer {layer} head {head}", percent(measured[layer][head])]
            for layer, head in places[:5]
        ]
    together = [
        [f"{name} heads", *map(percent, restored_together(results, name))]
        for name in run["together"]
    ]
    numbers = list(map(str, run["numbers"]))
    return "\n\n".join(
        [
            markdown_table([f"head, {INTERVAL}", "alone"], strongest, rights(1)),
            markdown_table([f"patched together, {INTERVAL}", *numbers], together, rights(5)),
        ]
    )


def painted_curve(results: dict, row: str, kind: str | None = None) -> list[Share]:
    """How often a patch at each point paints the donor's word."""
    return curve(results, "tracing", lambda run: run["verdicts"][row], "Dd", kind)


def knockout_tables(results: dict) -> str:
    """How often pictures keep the differing word, by what is cut, everywhere and by layer."""
    run = next(iter(runs_of(results, "knockout").values()))
    by_kind = {kind: kept(results, kind) for kind in (None, *WORD_KINDS)}

    def of(name: str) -> list:
        return flags(results, "knockout", lambda run: run["all"][name], KEPT)

    pairs = {name: (of(name), of(control)) for name, control in CONTROLS.items()}
    against = against_controls(pairs)
    everywhere = markdown_table(
        [
            f"pictures that keep the word, {INTERVAL}, without",
            "all",
            *WORD_KINDS,
            "minus the control",
        ],
        [
            [name, *(str(shares[name]) for shares in by_kind.values()), against.get(name)]
            for name in run["all"]
        ],
        rights(len(by_kind) + 1),
    )
    layers = [str(layer) for layer in range(1, run["layers"])]

    def row(where: str, name: str) -> list[str]:
        shares = curve(results, "knockout", lambda run: run[where][name], KEPT)
        return [f"{name}, {where}", *map(str, shares)]

    by_layer = markdown_table(
        ["cut below, or from, layer", *layers],
        [row(where, name) for name in run["below"] for where in ("below", "from")],
        rights(len(layers)),
    )
    return f"{everywhere}\n\n{by_layer}"


def decoder_tables(results: dict) -> str:
    """How often pictures show the donor's word, by layers and by steps that get its states."""
    run = next(iter(runs_of(results, "decoder").values()))

    def cells(name: str) -> list[str]:
        return [str(share) for share in curve(results, "decoder", lambda run: run[name], "Dd")]

    names = [layer.removesuffix(".cross") for layer in run["layers"]]
    steps = [str(step) for step in range(1, run["steps"])]
    layers = markdown_table(
        [f"pictures with the donor's word, {INTERVAL}", *names],
        [[name, *cells(name)] for name in ("alone", "all but")],
        rights(len(names)),
    )
    return f"{layers}\n\n" + markdown_table(
        ["donor's states from step", *steps], [["all layers", *cells("from")]], rights(len(steps))
    )


def against_controls(pairs: dict[str, tuple[Sequence, Sequence]]) -> dict[str, str]:
    """ "difference [interval] (p = ...)" of two ways by name; p values adjusted for all of them."""
    adjusted = holm({name: p_value_of(*each) for name, each in pairs.items()})
    return {
        name: f"{difference_of(*each)} (p = {adjusted[name]:.2g})" for name, each in pairs.items()
    }


def roles_table(results: dict) -> str:
    """What tells the most looked-at queries, by phrasing and relation; and how stable they are."""
    runs = runs_of(results, "roles")
    relations = sorted({word for run in runs.values() for word in run["relation"]})
    groups = [("all", {})]
    groups += [(f"said {each} both", {"phrasing": each}) for each in ("before", "after")]
    groups += [("said between", {"phrasing": "between"})]
    groups += [(word, {"relation": word}) for word in relations]
    rows = []
    for name, options in groups:
        values = {role: told_by(results, role, **options) for role in ROLES}
        shares = [str(share_of(each)) for each in values.values()]
        beyond = difference_of(values["mention"], values["side"])
        rows.append([name, *shares, str(beyond)])
    header = [f"the same query as in the other half, {INTERVAL}"]
    header += [*(f"told by {role}" for role in ROLES), "mention minus side"]
    lines = []
    for name, run in runs.items():
        for which, order in enumerate(("first", "second")):
            counts = counts_of_queries(run, which).most_common(4)
            queries = ", ".join(f"{query} ({n})" for query, n in counts)
            lines.append(f"{name}, mentioned {order}: {queries}")
    similar = [f"Profiles, {name}: {share}" for name, share in profile_similarity(results).items()]
    for name in ("other mention", "text states"):
        beyond = difference_of(*(profile_values(results, each) for each in ("same mention", name)))
        similar.append(f"Profiles, same mention minus {name}: {beyond}")
    return "\n\n".join([markdown_table(header, rows, rights(len(header) - 1)), *lines, *similar])


def stages_table(results: dict) -> str:
    """What tells the most looked-at queries before some stages, of the first run."""
    rows = [
        [f"before {stage}", *(str(share_of(told_before(results, stage, role))) for role in ROLES)]
        for stage in STAGES
    ]
    return markdown_table(
        [
            f"the same query as in the other half, {INTERVAL}",
            *(f"told by {role}" for role in ROLES),
        ],
        rows,
        rights(len(ROLES)),
    )


def transfers_table(results: dict) -> str:
    """What becomes of an object whose queries are exchanged."""
    run = next(iter(runs_of(results, "transfers").values()))
    rows = []
    for number in map(int, run["letters"]):
        against = map_against_controls(results, number)
        for way in ("map", *against):
            shares = [transfer_share(results, way, number, each) for each in ("T", "tT", "S", "W")]
            beyond = ""
            if way in against:
                beyond = f"{against[way][0]} (p = {against[way][1]:.2g})"
            rows.append([f"{way}, {number}", *map(str, shares), beyond])
    header = [f"{INTERVAL} of pictures, queries", "transferred", "at least partly"]
    header += ["the donor's other object", "wrong object changed", "map minus this"]
    return markdown_table(header, rows, rights(5))


def pointing_table(results: dict) -> str:
    """Hits by map and kind of word, and by how much the best map exceeds the controls."""
    kinds = [f"{kind} words" for kind in KINDS]
    shares = markdown_table(
        [f"hits, {INTERVAL}", *kinds],
        [
            [name, *(str(shares[kind]) for kind in KINDS)]
            for name, shares in pointing_shares(results).items()
        ],
        rights(len(KINDS)),
    )
    differences = {kind: pointing_differences(results, kind) for kind in KINDS}
    names = next(iter(differences.values()))
    beyond = markdown_table(
        [f"the best map minus, {INTERVAL}", *kinds],
        [[name, *(str(differences[kind][name]) for kind in KINDS)] for name in names],
        rights(len(KINDS)),
    )
    run = next(iter(runs_of(results, "pointing").values()))
    best = [f"Best for {kind} words: {run['chosen']['best of all'][kind]}" for kind in KINDS]
    return "\n\n".join([shares, beyond, *best])


def readable_table(results: dict) -> str:
    """What probes read after each layer: means over queries and best queries, and controls."""
    run = next(iter(runs_of(results, "readable").values()))
    rows, layers = [], []
    for question in run["questions"]:
        curves = readable_curves(results, question)
        layers = [str(layer) for layer in range(len(curves["mean"]))]
        for name, shares in curves.items():
            level = f"{100 * chance(results, question):.0f}" if name == "mean" else None
            rows.append([f"{question}, {name}", level, *map(str, shares)])
    header = [f"right, {INTERVAL}, after layer", "chance", *layers]
    return markdown_table(header, rows, rights(len(layers) + 1))


def edits_table(results: dict) -> str:
    """What edits end in, by how much thinking helps, and what the queries have to see."""
    rows = []
    for mode in ("direct", "thinking", "thought", "described", *CUTS):
        shares = [share_of(edited(results, mode, letters, NAMING)) for letters in LETTERS]
        rows.append([mode, *map(str, shares)])
    outcomes = markdown_table(
        [f"edits that name an object, {INTERVAL}", *LETTERS.values()], rows, rights(len(LETTERS))
    )
    groups = {kind or "all": None if kind is None else [kind] for kind in (None, *EDITS)}
    helps = {name: thinking_helps(results, kinds) for name, kinds in groups.items()}
    adjusted = holm({name: p_value for name, (_, p_value) in helps.items()})
    by_kind = []
    for name, kinds in groups.items():
        modes = [share_of(edited(results, mode, "R", kinds)) for mode in ("direct", "thinking")]
        shares = [*modes, helps[name][0]]
        by_kind.append([name, *map(str, shares), f"{adjusted[name]:.2g}"])
    header = ["right", "direct", "thinking", "difference", "p"]
    thoughts = [
        f"Painted as thought, of thoughts that are {words}: {painted_as_thought(results, right)}"
        for words, right in (("right", True), ("wrong", False))
    ]
    return "\n\n".join([outcomes, markdown_table(header, by_kind, rights(4)), *thoughts])


TABLES: dict[str, Callable[[dict], str]] = {
    "tracing": tracing_tables,
    "knockout": knockout_tables,
    "decoder": decoder_tables,
    "roles": roles_table,
    "stages": stages_table,
    "transfers": transfers_table,
    "pointing": pointing_table,
    "readable": readable_table,
    "edits": edits_table,
}


def tables(results: dict) -> str:
    """The tables of all parts that are there."""
    present = {run["part"] for run in results["runs"]}
    parts = [name for name in TABLES if name in present]
    return "\n\n".join(f"## {name}\n\n{TABLES[name](results)}" for name in parts)
