"""Files of a workspace: the only reader and writer of folds, runs, blends and submissions.

    folds/folds.csv, folds.json, report.csv
    folds/drift.json, drift.csv     how the test file differs, and which rows are most like it
    oof/<model>/seed<s>/<run>/      run.json, heldout.parquet, test.parquet, model/
    oof/<model>/seed<s>/.<run>.*    an unfinished run (.partial) and its lock (.lock)
    oof/.tokens/                    tokenised texts, see text.cache
    oof/.vectors/                   texts' vectors by frozen backbones, see text.vector_cache
    oof/.filled/                    texts changed by language models, see text.augment.filled
    oof/.near/                      near-duplicates, see near.cached
    oof/.index/                     vectors of all texts and their record, see stages.index
    oof/.pretrained/<key>/          backbones pretrained on the texts, see stages.pretrain
    oof/_blends/<name>/             blend.json, oof.parquet, nested.parquet, test.parquet, model/
    oof/_patterns/<name>.json       the audit of rules on a blend or a model
    oof/_comparisons/<a>-vs-<b>.json    paired differences of models from a baseline
    oof/…/views.csv                 scores on parts of the rows, of a model or of a blend
    submissions/<name>.csv, .json
    submissions/<name>.html         the page of a blend
    submissions/private/<name>.csv, .txt    scores per label against the solution
    submissions/log.json, pushed/   what was pushed to a site, with copies
    bundle/<name>/, <name>.zip      a blend that predicts without the workspace, see foldstack.bundle
    predictions/                    predictions of new texts, see `predictions`
    tracking/<model>/seed<s>/<run>/     event files of trackers
    exports/<model>-seed<s>-<run>-<form>/   networks in the forms of other tools

Every file is written to a temporary file and renamed; a finished run appears by one rename.
"""

from __future__ import annotations

from pathlib import Path

from foldstack.predictions import PredictionFiles
from foldstack.store.blend_files import BlendFiles
from foldstack.store.bundle_files import BundleFiles
from foldstack.store.comparison_files import ComparisonFiles
from foldstack.store.drift_files import DriftFiles
from foldstack.store.export_files import ExportFiles
from foldstack.store.fold_files import FoldFiles
from foldstack.store.index_files import IndexFiles
from foldstack.store.keys import RunKey
from foldstack.store.page_files import PageFiles
from foldstack.store.parquet import Predictions, parquet_meta, read_parquet, write_parquet
from foldstack.store.push_files import PushFiles
from foldstack.store.run_files import NO_ARTEFACTS, TEMPORARY
from foldstack.store.run_predictions import RunPredictionFiles
from foldstack.store.splits import Folds
from foldstack.store.submission_files import SubmissionFiles

__all__ = [
    "FOLDERS", "NO_ARTEFACTS", "TEMPORARY", "Folds", "Predictions", "RunKey", "Store",
    "parquet_meta", "read_parquet", "write_parquet",
]  # fmt: skip
FOLDERS = ("folds", "oof", "submissions")


class Store(
    FoldFiles,
    DriftFiles,
    RunPredictionFiles,
    ComparisonFiles,
    IndexFiles,
    BlendFiles,
    BundleFiles,
    SubmissionFiles,
    ExportFiles,
    PushFiles,
    PageFiles,
):
    """The files of one workspace."""

    @property
    def solution(self) -> Path:
        """The test labels, which only the score stage reads."""
        return self.root / "input" / "private" / "solution.csv"

    @property
    def shared_folders(self) -> tuple[Path, ...]:
        """The folders of stages that are there in every workspace."""
        return (self.blends_dir, self.audits_dir, self.comparisons_dir, self.private_dir)

    @property
    def predictions(self) -> PredictionFiles:
        return PredictionFiles(self.root / "predictions")
