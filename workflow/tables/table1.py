"""Table 1: sample quality. FID of A Table 1 and B Table 1, Inception Score of B Table 1 and of A's running text.

Tolerances, written before any run. FID: 10 % of the published value. The spread between evaluation codes (resize
filter, rounding, reference set) is of that order, and neither paper prints a spread. Inception Score: 5 % of the
published value. Split noise is about 1 %. The number of splits and the mode of batch normalisation, both unpublished,
add more.
"""

from dtri.report.cells import Cell, ReferenceColumn, Table, blank_note, printed

A_COLUMNS = (
    ("vae", "VAE"),
    ("dcgan", "DCGAN"),
    ("wgan", "WGAN"),
    ("coopnet", "CoopNet"),
    ("alice", "ALICE"),
    ("svae", "SVAE"),
    ("sngan", "SNGAN"),
    ("joint_vae_ebm_plus", "Ours(+)"),
    ("joint_vae_ebm_control", "Control (Eq. 15)"),
    ("joint_vae_ebm", "Ours"),
    ("divergence_triangle", "Divergence triangle (B)"),
)
A_FID = (
    ("cifar10", "CIFAR-10", ("109.5", "37.7", "40.2", "33.6", "48.6", "43.5", "29.3", "33.3", "", "30.1", "")),
    ("celeba", "CelebA", ("99.09", "38.4", "36.4", "56.6", "46.1", "40.7", "50.4", "29.5", "", "24.7", "31.9")),
    ("lsun_bedroom", "LSUN-bedroom", ("175.2", "70.4", "67.7", "35.4", "72", "-", "67.8", "31.4", "", "27.3", "")),
)
A_IS = (
    ("joint_vae_ebm_plus", "Ours(+)", ""),
    ("joint_vae_ebm", "Ours", "7.17"),
    ("divergence_triangle", "Divergence triangle (B)", "7.23"),
)
B_COLUMNS = (
    ("vae", "VAE"),
    ("dcgan", "DCGAN"),
    ("wgan", "WGAN"),
    ("coopnet", "CoopNet"),
    ("cegan", "CEGAN"),
    ("ali", "ALI"),
    ("alice", "ALICE"),
    ("divergence_triangle", "Divergence triangle (B)"),
)
B_IS = ("4.08", "6.16", "5.76", "6.55", "7.07", "5.93", "6.02", "7.23")
B_FID = ("99.09", "38.39", "36.36", "56.57", "41.89", "60.29", "46.14", "31.92")

COPIED = "copied, rounded, from paper B Table 1"
NOTES = {
    ("A", "fid", "cifar10", "dcgan"): "probably quoted: 37.7 is in the TTUR paper (DCGAN, original training) and in "
    "Table 2 of the SNGAN paper (GAN-GP, standard CNN)",
    ("A", "fid", "lsun_bedroom", "dcgan"): "probably quoted from the TTUR paper (DCGAN, original training)",
    ("A", "fid", "cifar10", "wgan"): "probably the WGAN-GP value quoted in the SNGAN paper",
    (
        "A",
        "fid",
        "cifar10",
        "sngan",
    ): "probably quoted from Table 2 of the SNGAN paper (standard CNN, softplus loss), of 10,000 and 5,000 images",
    ("A", "fid", "celeba", "vae"): "copied from paper B Table 1; the column's only cell with two decimals",
    ("A", "fid", "celeba", "dcgan"): COPIED,
    ("A", "fid", "celeba", "wgan"): COPIED,
    ("A", "fid", "celeba", "alice"): COPIED,
    ("A", "fid", "celeba", "coopnet"): COPIED + "; bold in the paper's text although second worst of its row",
    ("A", "fid", "celeba", "joint_vae_ebm"): "repeated in the running text (section 5.1)",
    ("A", "fid", "celeba", "divergence_triangle"): "running text of paper A only; 31.92 in paper B",
    ("A", "is", "cifar10", "joint_vae_ebm"): "running text only; samples and splits not given",
    ("A", "is", "cifar10", "divergence_triangle"): "running text of paper A, quoted from paper B Table 1",
    ("B", "is", "cifar10", "vae"): "borrowed or re-run, source not given",
    ("B", "is", "cifar10", "dcgan"): "borrowed (the WGAN-GP paper quotes the same value)",
    ("B", "is", "cifar10", "wgan"): "borrowed",
    ("B", "is", "cifar10", "coopnet"): "borrowed",
    ("B", "is", "cifar10", "cegan"): "borrowed",
    ("B", "is", "cifar10", "ali"): "borrowed",
    ("B", "is", "cifar10", "alice"): "borrowed (the authors' page says 6.015 ± 0.0284, at lambda = 1e-6)",
    (
        "B",
        "is",
        "cifar10",
        "divergence_triangle",
    ): "'Ours' in paper B; 50,000 samples, one split in the released script",
    ("B", "fid", "celeba", "divergence_triangle"): "'Ours' in paper B; 10,000 samples against 9,000 faces",
}
QUOTED = "the printed number is probably quoted from a paper that measures with other numbers of samples and images"
INCOMPARABLE = {
    ("A", "fid", "cifar10", "dcgan"),
    ("A", "fid", "cifar10", "wgan"),
    ("A", "fid", "cifar10", "sngan"),
    ("A", "fid", "lsun_bedroom", "dcgan"),
}
BOLD = {
    ("A", "fid", "cifar10", "sngan"),
    ("A", "fid", "celeba", "coopnet"),
    ("A", "fid", "celeba", "joint_vae_ebm"),
    ("A", "fid", "lsun_bedroom", "joint_vae_ebm"),
}


def cell(paper: str, metric: str, dataset: str, model: str, row: str, column: str, text: str) -> Cell:
    """A cell of the paper's table; `text` is its printed number, "-" for a dash, "" for no such cell."""
    value, _ = printed(text)
    key = (paper, metric, dataset, model)
    return Cell(
        paper=paper,
        metric=metric,
        dataset=dataset,
        model=model,
        row=row,
        column=column,
        published=value,
        published_text=text,
        direction="higher" if metric == "is" else "lower",
        tolerance=round((0.05 if metric == "is" else 0.1) * (value or 0.0), 4),
        note=NOTES.get(key, blank_note(text)),
        bold=key in BOLD,
        incomparable=QUOTED if key in INCOMPARABLE else "",
    )


def further(metric: str, score: str, dataset: str, column: str, model: str, row: str) -> Cell:
    """A cell for a number that no paper prints, measured on the same samples."""
    return Cell(
        paper="",
        metric=metric,
        score=score,
        dataset=dataset,
        model=model,
        row=row,
        column=column,
        published=None,
        direction="lower" if metric == "kid" else "higher",
        tolerance=0.0,
        note=blank_note(""),
    )


PRINTED = (
    *(
        cell("A", "fid", dataset, model, row, column, text)
        for dataset, row, texts in A_FID
        for (model, column), text in zip(A_COLUMNS, texts, strict=True)
    ),
    *(cell("A", "is", "cifar10", model, "CIFAR-10", column, text) for model, column, text in A_IS),
    *(
        cell("B", "is", "cifar10", model, "CIFAR-10", column, text)
        for (model, column), text in zip(B_COLUMNS, B_IS, strict=True)
    ),
    *(
        cell("B", "fid", "celeba", model, "CelebA", column, text)
        for (model, column), text in zip(B_COLUMNS, B_FID, strict=True)
    ),
)
# Cells that no paper prints, of the same runs, with systems in rows.
RUNS = dict.fromkeys((c.dataset, c.row, c.model, c.column) for c in PRINTED if c.metric == "fid")
RUNS |= dict.fromkeys((c.dataset, c.row, c.model, c.column) for c in PRINTED if c.metric == "is")
FURTHER = (
    *(further("kid", "", dataset, place, model, system) for dataset, place, model, system in RUNS),
    *(
        further("prc", score, dataset, f"{place}, {score or 'precision'}", model, system)
        for dataset, place, model, system in RUNS
        for score in ("", "recall")
    ),
)


TABLE = Table(
    name="table1",
    title="Sample quality",
    headings=(
        ("A", "fid", "Paper A, Table 1 (last column from its section 5.1): FID"),
        ("A", "is", "Paper A, section 5.1: Inception Score"),
        ("B", "is", "Paper B, Table 1: Inception Score"),
        ("B", "fid", "Paper B, Table 1: FID"),
        ("", "kid", "In neither paper: KID"),
        ("", "prc", "In neither paper: precision and recall"),
    ),
    cells=(*PRINTED, *FURTHER),
    references=(ReferenceColumn("fid", "uniform noise", "noise", ()),),
    notes=(
        "'Ours' trains the inference network with Eq. 15 of paper A, 'Ours(+)' with Eq. 17. "
        "'Divergence triangle (B)' is the column that paper B calls 'Ours'.",
        "'Ours' and 'Ours(+)' here differ in more than the equation: in the weights of f (a), of the prior (p) and of "
        "the entropies (e), so in the weight of reconstruction against f for the generator (r / a), and the critic's "
        "last layer, which is spectrally normalised for 'Ours(+)' alone. 'Control (Eq. 15)' is 'Ours(+)' but for the "
        "equation: beside it, it shows what Eq. 17 changes. Not in the paper, so without a verdict.",
        "Paper A's Table 1 mixes protocols: its CelebA column copies five baselines from paper B (10,000 samples "
        "against 9,000 faces), and several CIFAR-10 and LSUN baselines match numbers of the TTUR and SNGAN papers, "
        "which use other sample sizes. FID falls with the number of samples, so rows must not be ranked across "
        "protocols.",
        "Paper A prints 'LSUN' for LSUN-bedroom at 64x64. Neither paper gives the number of Inception Score splits; "
        "paper A gives no FID sample sizes.",
        "Bold is the paper's own and inconsistent: CoopNet on CelebA (56.6) is bold although second worst.",
        "Tolerance: FID 10 % and Inception Score 5 % of the published value.",
    ),
)
