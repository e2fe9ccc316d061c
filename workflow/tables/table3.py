"""Table 3: out-of-distribution detection. AUROC of A Table 3: trained on CIFAR-10, its test set against other sets.

Score: the learned f(x, z(x)) = -energy, in-distribution = positive class, so that 0.5 is chance and 1 is perfect.
Tolerance, written before any run: 0.05. The paper prints neither seeds nor a spread, and several cells only two digits
(one: 0.5). So anything finer would compare rounding and luck.
"""

from dtri.report.cells import Cell, Table, blank_note, printed

AGAINST = (("svhn", "SVHN"), ("uniform", "Uniform"), ("dtd", "Texture"), ("celeba32", "CelebA"))
A_AUROC = (
    ("igebm", "EBM", ("0.63", "1.0", "0.48", "-")),
    ("alice", "ALICE", ("0.29", "0.0", "0.40", "0.48")),
    ("svae", "SVAE", ("0.42", "0.29", "0.5", "0.52")),
    ("joint_vae_ebm", "Ours", ("0.68", "1.0", "0.56", "0.56")),
    ("joint_vae_ebm_plus", "Ours(+)", ("", "", "", "")),
    ("divergence_triangle", "Divergence triangle (B)", ("", "", "", "")),
    ("vae", "VAE", ("", "", "", "")),
)
# Further rows below a system's row, and the score that they show.
FURTHER = {"sign reversed": "reversed", "BN batch statistics": "batch_statistics"}
NOTES = {
    "igebm": "quoted from Du and Mordatch (2019): 'Uniform' there is Gaussian noise, Texture a crop",
    "alice": "released critic is low on data, so the sign is probably flipped (read 1 - value: 0.71, 1.00, 0.60, 0.52)",
    "svae": "released critic is low on data, so the sign may be flipped (read 1 - value: 0.58, 0.71, 0.50, 0.48)",
}
UNKNOWN_SIGN = "the sign of the printed score is unknown (see the notes)"
INCOMPARABLE = {  # system, or system and set -> why
    "alice": UNKNOWN_SIGN,
    "svae": UNKNOWN_SIGN,
    ("igebm", "svhn"): "the printed number is of SVHN's training split",
    ("igebm", "uniform"): "the printed number is of Gaussian noise, not of uniform noise",
    ("igebm", "dtd"): "the printed number is of crops of the top left corner",
}


def cell(model: str, row: str, against: str, column: str, text: str, score: str = "") -> Cell:
    """A cell of the paper's table; `text` is its printed number, "-" for a dash, "" for no such cell."""
    return Cell(
        paper="A",
        metric="auroc",
        dataset="cifar10",
        against=against,
        score=score,
        model=model,
        row=row,
        column=column,
        published=printed(text)[0],
        published_text=text,
        direction="higher",
        tolerance=0.05,
        note=blank_note(text) or NOTES.get(model, ""),
        bold=model == "joint_vae_ebm",
        incomparable=INCOMPARABLE.get((model, against), INCOMPARABLE.get(model, "")) if text not in ("", "-") else "",
    )


def cells(model: str, row: str, texts: tuple[str, ...]) -> tuple[Cell, ...]:
    """A system's row; for ALICE and SVAE also rows with the other scores that the paper may have used."""
    own = tuple(cell(model, row, *place, text) for place, text in zip(AGAINST, texts, strict=True))
    if model not in ("alice", "svae"):
        return own
    further = (cell(model, f"{row}, {what}", *place, "", score) for what, score in FURTHER.items() for place in AGAINST)
    return (*own, *further)


TABLE = Table(
    name="table3",
    title="Out-of-distribution detection, trained on CIFAR-10",
    headings=(("A", "auroc", "Paper A, Table 3: AUROC of CIFAR-10 test against another set"),),
    cells=tuple(one for model, row, texts in A_AUROC for one in cells(model, row, texts)),
    notes=(
        "In-distribution is the positive class: 0.5 is chance, 1 is perfect, 0 is the perfectly wrong order. "
        "'Ours' trains the inference network with Eq. 15 of paper A, 'Ours(+)' with Eq. 17.",
        "The paper does not say which score of ALICE and SVAE it used. Their released code trains the critic with "
        "inverted labels, which would explain numbers below 0.5; oriented correctly, ALICE would print 0.71 on SVHN "
        "and 0.60 on Texture, above 'Ours'. Here every critic is oriented by its training, so that data score high; "
        "the rows 'sign reversed' show 1 - AUROC, the same scores read with the sign of the released code. The "
        "printed numbers may belong to either.",
        "The released ALICE and SVAE networks use fresh noise and batch statistics at test, so their scores depend on "
        "the composition of a batch. Here running averages and no noise are the rule; the rows 'BN batch statistics' "
        "take those of each batch of 100 images of one set, which tells sets apart by itself.",
        "The EBM row was measured by other authors on differently prepared sets (SVHN train split, Gaussian noise, "
        "top-left crops of Texture). Sizes and preprocessing of paper A's sets are not given.",
        "The paper prints 'Ours' in bold throughout, also where the EBM ties (Uniform 1.0).",
        "Tolerance: 0.05.",
    ),
)
