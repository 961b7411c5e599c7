"""Made-up tables of artifacts/evaluation, search and explain, small, with every column that the page reads."""

import json
from pathlib import Path

import pandas as pd
import yaml
from PIL import Image

COUNTS = {"n": 120, "n_patients": 31, "n_positive": 62, "n_negative": 58}
SOURCE = "predictions/stage-1/unimodal-mri-patient.parquet"
JOBS = [
    ("stage-1", "unimodal", "mri", "patient"),
    ("stage-1", "traditional_cnn", "mri", "patient"),
    ("stage-4", "multimodal", "multimodal", "patient"),
    ("stage-5", "unimodal", "ct", "patient"),
    ("stage-6", "unimodal", "mri", "patient"),
]


def job(number: int) -> dict:
    stage, architecture, images, protocol = JOBS[number]
    source = f"predictions/{stage}/{architecture}-{images}-{protocol}.parquet"
    return {"stage": stage, "architecture": architecture, "images": images, "protocol": protocol, "source": source}


def interval(value: float, half: float = 0.05) -> dict:
    return {"value": value, "ci_low": value - half, "ci_high": value + half, "interval": "effective patients"}


def curves() -> dict:
    bins, chosen, confusion = [], [], []
    for number in range(len(JOBS)):
        for step in range(11):
            x = step / 10
            y = min(1.0, x**0.3)
            row = {"bin": step, "mean_score": x, "observed": y, "low": max(0, y - 0.2), "high": min(1, y + 0.2)}
            bins.append(job(number) | row | {"n": 12, "n_patients": 9})
        chosen.append(
            job(number)
            | interval(0.83)
            | {"metric": "balanced_accuracy", "default_value": 0.8, "threshold_low": 0.41, "threshold_high": 0.62}
            | COUNTS
            | {"note": "", "source_threshold": SOURCE}
        )
        for level in ("image", "patient"):
            for kind in ("default", "chosen"):
                counts = {"true_positives": 50, "false_negatives": 12, "true_negatives": 49, "false_positives": 9}
                confusion.append(
                    job(number)
                    | {"level": level, "kind": kind, "threshold_low": 0.5, "threshold_high": 0.5}
                    | counts
                    | {"n": 120, "n_patients": 31}
                )
    return {"calibration": bins, "chosen": chosen, "confusion": confusion}


def paper() -> dict:
    skewness = {"group": "mri_control", "variable": "mean_grey", "part": "training", "skewness": -0.2, "n": 511}
    experiments = {"stage": "stage-4", "images": "multimodal", "validation": "folds", "n": 2008, "n_patients": 208}
    test = {"subset": "mri", "auc_multimodal": 0.91, "auc_unimodal": 0.9, "difference": 0.01, "ci_low": -0.02}
    test |= {"ci_high": 0.04, "z": 0.6, "p_value": 0.55, "n": 48, "n_patients": 6, "paper_z": 0.574}
    test |= {"paper_p_value": 0.566, "paper_ci_low": -0.021, "paper_ci_high": 0.038, "note": ""}
    test |= {"source_first": "predictions/stage-5/multimodal-multimodal-patient.parquet", "source_second": SOURCE}
    undefined = (
        test | dict.fromkeys(("ci_low", "ci_high", "z", "p_value")) | {"level": "patient", "note": "undefined: 1"}
    )
    ledger = {"table": 7, "stage": "stage-5", "images": "mri", "architecture": "unimodal", "n": 48, "n_positive": 24}
    ledger |= {"n_negative": 24, "accuracy": 95.83, "sensitivity": 94.0, "specificity": 95.0, "balanced_accuracy": 95.8}
    ledger |= {
        "balanced_accuracy_as_auc": 0.958,
        "possible": 0,
        "sensitivity_k": None,
        "specificity_k": None,
        "accuracy_k": 46,
    }
    ledger |= {"fits_n_positive": None, "fits_n_negative": None, "wald_agrees": 1, "auc_is_balanced": 1}
    sizes = {"table": 3, "images": "mri", "stated_positive": 511, "stated_negative": 502, "rows": 8, "possible_rows": 0}
    unpaired = {"stage_first": "stage-1", "stage_second": "stage-2", "protocol": "patient", "level": "patient"}
    unpaired |= {"first": "unimodal-mri", "second": "unimodal-ct", "auc_first": 0.9, "auc_second": 0.88}
    unpaired |= {"difference": 0.02, "ci_low": -0.05, "ci_high": 0.09, "z": 0.5, "df": 200, "p_value": 0.6}
    unpaired |= {"n_patients_first": 114, "n_patients_second": 94, "note": "", "source_first": SOURCE}
    totals = job(4) | {"metric": "accuracy"} | interval(0.9) | {"wald_low": 0.8, "wald_high": 0.95, "wilson_low": 0.81}
    totals |= {"wilson_high": 0.94, "n": 114, "n_patients": 15}
    return {
        "table1": [skewness | {"n_patients": 58, "paper_skewness": -0.037, "note": "", "source": "cohort/images.csv"}],
        "table2": [
            experiments
            | {"n_pairs": 1004, "architectures": "multimodal", "protocols": "image;patient", "paper_n": 2004}
            | {"paper_pairs": 1002, "note": "", "source": "splits/splits.csv"}
        ],
        "table8": [
            job(3)
            | {
                "mean": 0.93,
                "sd": 0.08,
                "n_correct": 60,
                "n": 68,
                "n_patients": 6,
                "paper_mean": 0.952,
                "paper_sd": 0.056,
            }
        ],
        "table9": [test | {"level": "image"}, undefined],
        "table10_totals": [totals | {"paper_value": 0.8859, "paper_low": 0.828, "paper_high": 0.944}],
        "ledger": [ledger | {"note": "not count-consistent at 24 + 24"}],
        "ledger_sizes": [sizes | {"best_positive": 502, "best_negative": 511, "best_rows": 8, "note": "swapped"}],
        "delong_unpaired": [unpaired | {"source_second": SOURCE}],
    }


def audits() -> dict:
    twin = {
        "split": "fold_image",
        "kind": "near",
        "threshold": 0.999,
        "pairs": 7,
        "pairs_other_patient": 0,
        "images": 6,
    }
    twins = [twin, twin | {"split": "holdout", "kind": "exact", "threshold": None, "pairs": 0, "images": 0}]
    pair = {"image_id_a": "a-mri-001", "image_id_b": "a-mri-002", "patient_a": "a", "patient_b": "a", "modality": "mri"}
    shared = {"split": "holdout", "unit": "patient", "units": 0, "units_total": 12, "images": 0, "n": 116, "share": 0}
    shortcuts = []
    for predictor, kind, value in (
        ("age", "shortcut", 0.55),
        ("header", "shortcut", 0.5),
        ("unimodal", "image model", 0.8),
    ):
        for metric in ("balanced_accuracy", "roc_auc"):
            row = {"predictor": predictor, "kind": kind, "images": "mri", "validation": "holdout", "metric": metric}
            row |= interval(value) | {"n": 48, "n_patients": 6, "columns": "age_years", "note": "", "source": SOURCE}
            shortcuts.append(row)
    beyond = [
        job(3)
        | {"predictor": predictor, "metric": metric, "model": 0.8, "shortcut": 0.6, "difference": 0.2, "note": ""}
        | {"ci_low": 0.05, "ci_high": 0.35, "n": 68, "n_patients": 6, "source_shortcut": "splits/splits.csv"}
        for predictor in ("age", "sex")
        for metric in ("balanced_accuracy", "roc_auc")
    ]
    groups = []
    for by, group, note in (("sex", "F", ""), ("scanner", "scanner 2", "too few: 7 patients, 10 wanted")):
        for metric in ("balanced_accuracy", "sensitivity", "specificity", "roc_auc"):
            numbers = dict.fromkeys(("value", "ci_low", "ci_high", "interval")) if note else interval(0.8)
            groups.append(job(0) | {"by": by, "group": group, "metric": metric, "note": note} | numbers | COUNTS)
    modalities = [
        job(2) | {"use": use, "metric": metric, "n": 1004, "n_patients": 114, "note": ""} | interval(0.85)
        for use in ("mri", "ct", "pooled", "pairs")
        for metric in ("balanced_accuracy", "sensitivity", "specificity", "roc_auc", "brier")
    ]
    return {
        "duplicates": [row | {"n": 203, "share": 0.03, "source": "splits/splits.csv"} for row in twins],
        "duplicate_pairs": [
            pair | {"correlation": 0.9995, "exact": 0, "splits": "fold_image", "source": "cohort/images.csv"}
        ],
        "shared": [shared | {"note": "", "source": "splits/splits.csv"}],
        "shortcuts": shortcuts,
        "beyond": beyond,
        "groups": groups,
        "modalities": modalities,
    }


def add_calibration(path: Path) -> None:
    """Slope and intercept of every job, where the summary has none."""
    summary = pd.read_csv(path)
    if "calibration_slope" not in set(summary["metric"]):
        brier = summary[summary["metric"] == "brier"]
        more = [brier.assign(metric=f"calibration_{name}") for name in ("slope", "intercept")]
        pd.concat([summary, *more]).to_csv(path, index=False)


def write_frames(artifacts: Path) -> None:
    """All tables that the page reads beside the summary's."""
    add_calibration(artifacts / "evaluation" / "summary.csv")
    for name, rows in (curves() | paper() | audits()).items():
        pd.DataFrame(rows).to_csv(artifacts / "evaluation" / f"{name}.csv", index=False)


def write_search(artifacts: Path) -> None:
    """Four candidates, one of them pruned."""
    folder = artifacts / "search"
    folder.mkdir()
    rows = [
        (0, "finished", 0.81, 90_000, 30_000_000, 1),
        (1, "finished", 0.86, 400_000, 90_000_000, 1),
        (2, "finished", 0.79, 500_000, 95_000_000, 0),
        (3, "pruned", None, 50_000, 9_000_000, 0),
    ]
    columns = ["candidate", "status", "balanced_accuracy", "parameters", "macs", "pareto"]
    frame = pd.DataFrame(rows, columns=columns).assign(spec='{"filters": [64, 32]}', seconds_per_epoch=0.8, epochs=4)
    frame.to_csv(folder / "candidates.csv", index=False)
    summary = {"candidates": 4, "finished": 3, "pruned": 1, "failed": 0, "rejected_shapes": 5, "best_candidate": 1}
    summary |= {"best_balanced_accuracy": 0.86, "reestimated_balanced_accuracy": 0.83, "reestimated_low": 0.78}
    summary |= {"reestimated_high": 0.88, "wall_seconds": 61.0, "training_seconds": 100.0, "folds": 3, "epochs": 4}
    summary |= {"overhead_seconds_per_candidate": 0.2, "idle_share": 0.07}
    (folder / "summary.json").write_text(json.dumps(summary))
    best = {"architecture": "traditional_cnn", "candidate": 1, "spec": {"filters": [64, 32]}}
    (folder / "best.yaml").write_text(yaml.safe_dump(best))


def write_explanations(artifacts: Path) -> None:
    """Two cases by two methods, one picture missing."""
    rows = []
    for number, kind in ((1, "worst_error"), (2, "correct")):
        for method in ("gradcampp", "smoothgrad"):
            file = f"osteo-unimodal-mri/Pmri1000-mri-00{number}-{method}.png"
            rows.append(
                ("osteo-unimodal-mri", "mri", f"Pmri1000-mri-00{number}", "Pmri1000", 1, 0.2, kind, method, file)
            )
    columns = ["model", "modality", "image_id", "patient_id", "target", "score", "kind", "method", "file"]
    folder = artifacts / "explain" / "osteo-unimodal-mri"
    folder.mkdir(parents=True)
    for row in rows[:-1]:
        Image.linear_gradient("L").resize((90, 60)).save(folder.parent / row[-1])
    frame = pd.DataFrame(rows, columns=columns).assign(vertebrae_share=[0.6, 0.5, None, None])
    frame.to_csv(folder.parent / "cases.csv", index=False)
    (folder.parent / "sanity.json").write_text(
        json.dumps(
            {
                "osteo-unimodal-mri": {
                    "gradcampp": {"similarity": 0.21, "flagged": 0},
                    "smoothgrad": {"similarity": None, "flagged": 0},
                }
            }
        )
    )
