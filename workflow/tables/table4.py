"""Table 4: anomaly detection on MNIST. AUPRC of paper A Table 4, one digit held out as the anomaly.

Tolerance, written before any run: the larger of 0.05 and twice the printed spread. The printed spread is over the last
ten epochs of presumably one run. So it understates the difference between two runs. 0.05 is of the order of the largest
printed spread.
"""

from dtri.report.cells import Cell, ReferenceColumn, Table, blank_note, printed

A_COLUMNS = (  # system, score ("": its energy), heading
    ("vae", "", "VAE"),
    ("meg", "", "MEG"),
    ("bigan", "", "BiGAN-σ"),
    ("bigan", "fm", "BiGAN-FM"),
    ("joint_vae_ebm", "", "Ours"),
    ("joint_vae_ebm_plus", "", "Ours(+)"),
    ("joint_vae_ebm_control", "", "Control (Eq. 15)"),
    ("divergence_triangle", "", "Divergence triangle (B)"),
)
A_AUPRC = (
    ("1", ("0.063", "0.281 ± 0.035", "0.287 ± 0.023", "", "0.297 ± 0.033", "", "", "")),
    ("4", ("0.337", "0.401 ± 0.061", "0.443 ± 0.029", "", "0.723 ± 0.042", "", "", "")),
    ("5", ("0.325", "0.402 ± 0.062", "0.514 ± 0.029", "", "0.676 ± 0.041", "", "", "")),
    ("7", ("0.148", "0.290 ± 0.040", "0.347 ± 0.017", "", "0.490 ± 0.041", "", "", "")),
    ("9", ("0.104", "0.342 ± 0.034", "0.307 ± 0.028", "", "0.383 ± 0.025", "", "", "")),
)
# Share of anomalies in the test set, and the AUPRC with every anomaly ranked last: 1 + (1 - p) ln(1 - p) / p.
CHANCE = (("1", "0.388"), ("4", "0.351"), ("5", "0.331"), ("7", "0.368"), ("9", "0.356"))
MINIMUM = (("1", "0.226"), ("4", "0.200"), ("5", "0.188"), ("7", "0.212"), ("9", "0.204"))

IMPOSSIBLE = "below the minimum possible on this split: another test composition (about 10 % anomalies fits)"
BELOW_CHANCE = "below chance on this split"
OTHER_SPLIT = "the printed VAE column is quoted through other papers and comes from another composition of the test set"


def note(row: str, model: str, text: str) -> str:
    """What is known of a printed number, such as below chance, or why there is none; "" for nothing."""
    value, _ = printed(text)
    if value is None:
        return blank_note(text)
    if value < float(dict(MINIMUM)[row]):
        return IMPOSSIBLE
    return BELOW_CHANCE if value < float(dict(CHANCE)[row]) else ""


def cell(metric: str, row: str, model: str, score: str, column: str, text: str) -> Cell:
    """A cell of the paper's table; `text` is its printed number, "-" for a dash, "" for no such cell."""
    value, std = printed(text)
    return Cell(
        paper="A",
        metric=metric,
        dataset=f"mnist_holdout{row}",
        model=model,
        score=score,
        row=row,
        column=column,
        published=value,
        published_std=std,
        published_text=text,
        direction="higher",
        tolerance=max(0.05, 2 * (std or 0.0)),
        note=note(row, model, text),
        bold=model == "joint_vae_ebm" and value is not None,
        incomparable=OTHER_SPLIT if model == "vae" and value is not None else "",
    )


TABLE = Table(
    name="table4",
    title="Anomaly detection on MNIST, one digit held out",
    headings=(
        ("A", "auprc", "Paper A, Table 4: AUPRC per held-out digit, clean split"),
        ("A", "auprc_leaky", "The same on the leaky split of the released baselines' code: AUPRC"),
    ),
    cells=(
        *(
            cell("auprc", row, *column, text)
            for row, texts in A_AUPRC
            for column, text in zip(A_COLUMNS, texts, strict=True)
        ),
        *(cell("auprc_leaky", row, *column, "") for row, _ in A_AUPRC for column in A_COLUMNS),
    ),
    references=tuple(
        ReferenceColumn(metric, heading, measure, values)
        for metric in ("auprc", "auprc_leaky")
        for heading, measure, values in (
            ("chance level", "chance", CHANCE),
            ("minimum possible", "minimum", MINIMUM),
        )
    ),
    notes=(
        "Chance is the share of anomalies in the test set (33 to 39 %, not 10 %); an AUPRC cannot fall below the "
        "minimum, reached when every anomaly is ranked last.",
        "The VAE column is impossible on this split for digits 1, 7 and 9: it is quoted through other papers and "
        "comes from another test composition. Do not rank it against the other columns.",
        "All four published methods are below chance on digit 1, MEG and BiGAN-σ also on digits 7 and 9: a ranking "
        "below chance means the held-out digit looks easier than the normal ones.",
        "The released code of the split (EGBAD, MEG) draws a new permutation for the test set: about 80 % of its test "
        "normals are training images. The clean split uses one permutation; the leaky one is shown for comparison.",
        "VAE, MEG and BiGAN-σ are quoted by the paper from the MEG paper. The printed value and ± of 'Ours' are over "
        "the last ten epochs of presumably one run. Ours is the mean over ten sets of weights, a fiftieth of the "
        "training apart (at full length: an epoch), then over seeds; the ± is over seeds. Bold is the paper's own.",
        "BiGAN-σ and BiGAN-FM are two scores of one model: 0.9 times the summed absolute reconstruction error plus 0.1 "
        "times the critic's cross-entropy at the reconstruction (as in the released code; that paper writes it at the "
        "image) or its feature matching.",
        "'Ours' trains the inference network with Eq. 15 of paper A, 'Ours(+)' with Eq. 17, and they differ in more "
        "(Table 1). 'Control (Eq. 15)' is 'Ours(+)' but for the equation. The paper prints 'Ours' alone, so the others "
        "have no verdict.",
        "AUPRC is the trapezoid area under the precision-recall curve; the held-out digit is the positive class.",
        "Tolerance: the larger of 0.05 and twice the printed spread.",
    ),
)
