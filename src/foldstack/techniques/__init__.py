"""The typed settings of the learners, and of every technique that a transformer preset switches on."""

from foldstack.techniques.adversaries import AWP, FGM, PGD, VAT, WORD_EMBEDDINGS, Adversary, FreeLB
from foldstack.techniques.augmentation import Augmentation, SpanMasking
from foldstack.techniques.auto import RunFacts
from foldstack.techniques.averages import EMA, SWA, Averaging, Soup
from foldstack.techniques.classifiers import (
    LightgbmClassifier,
    LogisticClassifier,
    NeighboursClassifier,
    RidgeVectorClassifier,
    SvmClassifier,
    VectorClassifier,
)
from foldstack.techniques.common import AUTO
from foldstack.techniques.heads import (
    AttentionHead,
    ClsAttentionHead,
    CnnHead,
    ConcatHead,
    GemHead,
    Head,
    LayersHead,
    PlainHead,
    RecurrentHead,
)
from foldstack.techniques.learner import LearnerSettings, LoopLearnerSettings, Traits
from foldstack.techniques.long import (
    Beginning,
    End,
    HeadTail,
    Keywords,
    Long,
    RandomWindow,
    Terms,
    Windows,
)
from foldstack.techniques.loop_settings import LoopSettings
from foldstack.techniques.losses import (
    GHM,
    Asymmetric,
    Average,
    ClassWeights,
    Correlation,
    CrossEntropy,
    Dice,
    Focal,
    Huber,
    LogitAdjusted,
    Loss,
    MultilabelCrossEntropy,
    PairwiseAUC,
    ScaledCrossEntropy,
    SoftF1,
    SquaredError,
)
from foldstack.techniques.optimizers import Adafactor, AdamW, Optimizer
from foldstack.techniques.pretraining import Pretraining
from foldstack.techniques.registry import Technique
from foldstack.techniques.sampling import Hard, Oversample, Power, Sampling, Smote, Undersample
from foldstack.techniques.schedules import (
    ConstantSchedule,
    Cosine,
    LinearSchedule,
    Plateau,
    Schedule,
    Step,
)
from foldstack.techniques.tfidf_preset import TfidfSettings
from foldstack.techniques.training import StageSettings, TrainingSettings
from foldstack.techniques.transformer_preset import TransformerSettings
from foldstack.techniques.vector_sources import BackboneSource, LatentSource, VectorSource
from foldstack.techniques.vectors_preset import VectorsSettings

__all__ = [
    "AUTO",
    "AWP",
    "EMA",
    "FGM",
    "GHM",
    "PGD",
    "SWA",
    "VAT",
    "WORD_EMBEDDINGS",
    "Adafactor",
    "AdamW",
    "Adversary",
    "Asymmetric",
    "AttentionHead",
    "Augmentation",
    "Average",
    "Averaging",
    "BackboneSource",
    "Beginning",
    "ClassWeights",
    "ClsAttentionHead",
    "CnnHead",
    "ConcatHead",
    "ConstantSchedule",
    "Correlation",
    "Cosine",
    "CrossEntropy",
    "Dice",
    "End",
    "Focal",
    "FreeLB",
    "GemHead",
    "Hard",
    "Head",
    "HeadTail",
    "Huber",
    "Keywords",
    "LatentSource",
    "LayersHead",
    "LearnerSettings",
    "LightgbmClassifier",
    "LinearSchedule",
    "LogisticClassifier",
    "LogitAdjusted",
    "Long",
    "LoopLearnerSettings",
    "LoopSettings",
    "Loss",
    "MultilabelCrossEntropy",
    "NeighboursClassifier",
    "Optimizer",
    "Oversample",
    "PairwiseAUC",
    "PlainHead",
    "Plateau",
    "Power",
    "Pretraining",
    "RandomWindow",
    "RecurrentHead",
    "RidgeVectorClassifier",
    "RunFacts",
    "Sampling",
    "ScaledCrossEntropy",
    "Schedule",
    "Smote",
    "SoftF1",
    "Soup",
    "SpanMasking",
    "SquaredError",
    "StageSettings",
    "Step",
    "SvmClassifier",
    "Technique",
    "Terms",
    "TfidfSettings",
    "TrainingSettings",
    "Traits",
    "TransformerSettings",
    "Undersample",
    "VectorClassifier",
    "VectorSource",
    "VectorsSettings",
    "Windows",
]
