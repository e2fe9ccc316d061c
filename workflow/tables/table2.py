"""Table 2: reconstruction of test images. RMSE of paper A Table 2 and per-pixel MSE of paper B Table 2, range [-1, 1].

Tolerance, written before any run: 0.01 for both. It is well above the rounding of three printed digits; neither paper
prints a spread. It is of the order of the gaps between the best rows, so that "reproduced" still separates the rest.
"""

from dtri.report.cells import Cell, Table, blank_note, printed

A_DATASETS = (("cifar10", "CIFAR-10"), ("celeba", "CelebA"), ("lsun_bedroom", "LSUN-bedroom"))
A_RMSE = (
    ("vae", "VAE", ("0.192", "0.197", "0.164")),
    ("ali", "ALI", ("0.558", "0.720", "-")),
    ("alice", "ALICE", ("0.185", "0.214", "0.181")),
    ("svae", "SVAE", ("0.258", "0.209", "-")),
    ("joint_vae_ebm_plus", "Ours(+)", ("0.184", "0.208", "0.169")),
    ("joint_vae_ebm_control", "Control (Eq. 15)", ("", "", "")),
    ("joint_vae_ebm", "Ours", ("0.177", "0.190", "0.169")),
    ("divergence_triangle", "Divergence triangle (B)", ("", "", "")),
)
B_COLUMNS = (
    ("wake_sleep", "WS"),
    ("vae", "VAE"),
    ("ali", "ALI"),
    ("alice", "ALICE"),
    ("divergence_triangle", "Divergence triangle (B)"),
)
B_MSE = (
    ("cifar10", "CIFAR-10", ("0.058", "0.037", "0.311", "0.034", "0.028")),
    ("celeba", "CelebA", ("0.152", "0.039", "0.519", "0.046", "0.030")),
)

NOTES = {
    ("A", "cifar10", "vae"): "square root of paper B's MSE 0.037",
    ("A", "cifar10", "ali"): "square root of paper B's MSE 0.311",
    ("A", "cifar10", "alice"): "square root of paper B's MSE 0.034, within rounding",
    ("A", "celeba", "vae"): "square root of paper B's MSE 0.039, within rounding",
    ("A", "celeba", "ali"): "square root of paper B's MSE 0.519",
    ("A", "celeba", "alice"): "square root of paper B's MSE 0.046, within rounding",
    ("A", "cifar10", "joint_vae_ebm"): "not the root of paper B's 'Ours' (0.167): another model, higher error",
    ("A", "celeba", "joint_vae_ebm"): "not the root of paper B's 'Ours' (0.173): another model, higher error",
    ("A", "lsun_bedroom", "vae"): "best of its column",
    ("A", "lsun_bedroom", "joint_vae_ebm_plus"): "bold although the VAE's 0.164 is lower",
    ("A", "lsun_bedroom", "joint_vae_ebm"): "bold although the VAE's 0.164 is lower",
    ("B", "cifar10", "alice"): "needs lambda >= 10 in the authors' sweep, where the Inception Score is below 2",
    ("B", "cifar10", "divergence_triangle"): "'Ours' in paper B",
    ("B", "celeba", "divergence_triangle"): "'Ours' in paper B",
}
BOLD = {
    ("A", "lsun_bedroom", "vae"),
    ("A", "lsun_bedroom", "joint_vae_ebm_plus"),
    ("A", "cifar10", "joint_vae_ebm"),
    ("A", "celeba", "joint_vae_ebm"),
    ("A", "lsun_bedroom", "joint_vae_ebm"),
}


def cell(paper: str, metric: str, dataset: str, model: str, row: str, column: str, text: str) -> Cell:
    """A cell of the paper's table; `text` is its printed number, "-" for a dash, "" for no such cell."""
    key = (paper, dataset, model)
    return Cell(
        paper=paper,
        metric=metric,
        dataset=dataset,
        model=model,
        row=row,
        column=column,
        published=printed(text)[0],
        published_text=text,
        direction="lower",
        tolerance=0.01,
        note=NOTES.get(key, blank_note(text)),
        bold=key in BOLD,
    )


TABLE = Table(
    name="table2",
    title="Reconstruction of test images",
    headings=(
        ("A", "rmse", "Paper A, Table 2: root mean squared error"),
        ("B", "mse", "Paper B, Table 2: per-pixel mean squared error"),
    ),
    cells=(
        *(
            cell("A", "rmse", dataset, model, row, column, text)
            for model, row, texts in A_RMSE
            for (dataset, column), text in zip(A_DATASETS, texts, strict=True)
        ),
        *(
            cell("B", "mse", dataset, model, row, column, text)
            for dataset, row, texts in B_MSE
            for (model, column), text in zip(B_COLUMNS, texts, strict=True)
        ),
    ),
    notes=(
        "'Ours' trains the inference network with Eq. 15 of paper A, 'Ours(+)' with Eq. 17. "
        "'Divergence triangle (B)' is the column that paper B calls 'Ours'; paper A does not print it.",
        "'Ours' and 'Ours(+)' here differ in more than the equation: in the weights of f (a), of the prior (p) and of "
        "the entropies (e), so in the weight of reconstruction against f for the generator (r / a), and the critic's "
        "last layer, which is spectrally normalised for 'Ours(+)' alone. 'Control (Eq. 15)' is 'Ours(+)' but for the "
        "equation: beside it, it shows what Eq. 17 changes. Not in the paper, so without a verdict.",
        "Pixel range [-1, 1] in both papers, deduced: paper A's baselines are the square roots of paper B's errors. "
        "In the range [0, 1] an RMSE is half and an MSE a quarter of the number shown.",
        "Test images: 10,000 for CIFAR-10, 1,000 held-out faces for CelebA (paper B); paper A gives no numbers.",
        "Bold is the paper's own and inconsistent: on LSUN-bedroom three of five numbers are bold, the VAE's is best.",
        "Tolerance: 0.01.",
    ),
)
