"""The results of the study of causes as tables in Markdown; all numbers are per cent."""

from collections.abc import Callable

from .causes_edits import KINDS as EDITS
from .causes_map_shares import (
    chance,
    counts_of_queries,
    edited,
    follows_mention,
    follows_side,
    map_against_controls,
    pointing_shares,
    profile_similarity,
    readable_curves,
    thinking_helps,
    transferred,
)
from .causes_pairs import WORDS
from .causes_pointing import KINDS
from .causes_shares import (
    Share,
    compared,
    curve,
    flags,
    kept,
    restored,
    restored_by_head,
    runs_of,
    share_of,
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
    """What patches restore, by row and point; the five strongest heads; and what is painted."""
    run = next(iter(runs_of(results, "tracing").values()))
    points = [point.removeprefix("llm.").removesuffix(".resid_post") for point in run["points"]]
    rows = [row for row in run["losses"] if row not in ("own", "donor")]
    losses = markdown_table(
        [f"of the way to the donor's loss, {INTERVAL}, after layer", *points],
        [[row, *map(percent, restored(results, row))] for row in rows],
        rights(len(points)),
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
    strongest = []
    for row in run["heads"]:
        heads = [
            (triple, f"{row}, layer {layer} head {head}")
            for layer, triples in enumerate(restored_by_head(results, row))
            for head, triple in enumerate(triples)
        ]
        heads.sort(key=lambda pair: -pair[0][0])
        strongest += [[name, percent(triple)] for triple, name in heads[:5]]
    return "\n\n".join([losses, pictures, markdown_table(["head", INTERVAL], strongest, rights(1))])


def painted_curve(results: dict, row: str, kind: str | None = None) -> list[Share]:
    """How often a patch at each point paints the donor's word."""
    return curve(results, "tracing", lambda run: run["verdicts"][row], "Dd", kind)


def knockout_tables(results: dict) -> str:
    """How often pictures keep the differing word, by what is cut, everywhere and by layer."""
    run = next(iter(runs_of(results, "knockout").values()))
    by_kind = {kind: kept(results, kind) for kind in (None, *WORD_KINDS)}

    def of(name: str) -> list:
        return flags(results, "knockout", lambda run: run["all"][name], "Oo")

    *names, control = run["all"]
    differences = compared(of(control), {name: of(name) for name in names})

    def against(name: str) -> str | None:
        if name == control:
            return None
        difference, p_value = differences[name]
        return f"{difference} (p = {p_value:.2g})"

    everywhere = markdown_table(
        [
            f"pictures that keep the word, {INTERVAL}, without",
            "all",
            *WORD_KINDS,
            "lost beyond the control",
        ],
        [
            [name, *(str(shares[name]) for shares in by_kind.values()), against(name)]
            for name in run["all"]
        ],
        rights(len(by_kind) + 1),
    )
    layers = [str(layer) for layer in range(1, run["layers"])]

    def row(where: str, name: str) -> list[str]:
        shares = curve(results, "knockout", lambda run: run[where][name], "Oo")
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


def roles_table(results: dict) -> str:
    """Whether the most looked-at query is told by mention or by side, by phrasing and relation."""
    runs = runs_of(results, "roles")
    relations = sorted({word for run in runs.values() for word in run["relation"]})
    groups = [("all", {})]
    groups += [(f"said {each} both", {"phrasing": each}) for each in ("before", "after")]
    groups += [("said between", {"phrasing": "between"})]
    groups += [(word, {"relation": word}) for word in relations]
    rows = []
    for name, options in groups:
        mention, side = follows_mention(results, **options), follows_side(results, **options)
        difference, p_value = compared(mention, {"side": side})["side"]
        shares = map(str, (share_of(mention), share_of(side), difference))
        rows.append([name, *shares, f"{p_value:.2g}"])
    header = [f"the same query as in the other half, {INTERVAL}"]
    header += ["by mention", "by side", "difference", "p"]
    lines = []
    for name, run in runs.items():
        for which, order in enumerate(("first", "second")):
            counts = counts_of_queries(run, which).most_common(4)
            queries = ", ".join(f"{query} ({n})" for query, n in counts)
            lines.append(f"{name}, mentioned {order}: {queries}")
    similar = [f"Profiles, {name}: {share}" for name, share in profile_similarity(results).items()]
    return "\n\n".join([markdown_table(header, rows, rights(4)), *lines, *similar])


def transfers_table(results: dict) -> str:
    """What becomes of an object whose queries are exchanged."""
    run = next(iter(runs_of(results, "transfers").values()))
    rows = []
    for number, ways in run["letters"].items():
        against = map_against_controls(results, number)
        for way in ways:
            shares = [
                share_of(transferred(results, way, number, each)) for each in ("T", "tT", "W")
            ]
            beyond = ""
            if way in against:
                beyond = f"{against[way][0]} (p = {against[way][1]:.2g})"
            rows.append([f"{way}, {number}", *map(str, shares), beyond])
    header = [f"{INTERVAL} of pictures, queries", "transferred", "at least partly"]
    header += ["wrong object changed", "map minus this"]
    return markdown_table(header, rows, rights(4))


def pointing_table(results: dict) -> str:
    """Hits by map and kind of word."""
    return markdown_table(
        [f"hits, {INTERVAL}", *(f"{kind} words" for kind in KINDS)],
        [
            [name, *(str(shares[kind]) for kind in KINDS)]
            for name, shares in pointing_shares(results).items()
        ],
        rights(len(KINDS)),
    )


def readable_table(results: dict) -> str:
    """What probes read after each layer: the mean over queries, its control, and the best query."""
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
    """What edits end in, and by how much thinking helps."""
    rows = []
    for mode in ("direct", "thinking", "thought", "described"):
        shares = [share_of(edited(results, mode, letters)) for letters in LETTERS]
        rows.append([mode, *map(str, shares)])
    outcomes = markdown_table([f"edits, {INTERVAL}", *LETTERS.values()], rows, rights(len(LETTERS)))
    by_kind = []
    for kind in (None, *EDITS):
        kinds = None if kind is None else [kind]
        modes = [share_of(edited(results, mode, "R", kinds)) for mode in ("direct", "thinking")]
        difference, p_value = thinking_helps(results, kinds)
        by_kind.append([kind or "all", *map(str, modes), str(difference), f"{p_value:.2g}"])
    header = ["right", "direct", "thinking", "difference", "p"]
    return f"{outcomes}\n\n" + markdown_table(header, by_kind, rights(4))


TABLES: dict[str, Callable[[dict], str]] = {
    "tracing": tracing_tables,
    "knockout": knockout_tables,
    "decoder": decoder_tables,
    "roles": roles_table,
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
