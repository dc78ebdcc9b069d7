"""The typed settings of the learners, and of every technique that a transformer preset switches on."""

from foldstack.techniques.adapter_settings import LoraSettings
from foldstack.techniques.adversaries import AWP, FGM, PGD, VAT, WORD_EMBEDDINGS, Adversary, FreeLB
from foldstack.techniques.augmentation import Augmentation, SpanMasking
from foldstack.techniques.auto import RunFacts
from foldstack.techniques.averages import EMA, SWA, Averaging, Soup
from foldstack.techniques.biencoder_preset import BiEncoderSettings
from foldstack.techniques.both_orders import BothOrders
from foldstack.techniques.classifiers import (
    LabelTextsClassifier,
    LightgbmClassifier,
    LogisticClassifier,
    NeighboursClassifier,
    RidgeVectorClassifier,
    SvmClassifier,
    VectorClassifier,
)
from foldstack.techniques.common import AUTO
from foldstack.techniques.consistency import Consistency
from foldstack.techniques.heads import (
    AttentionHead,
    CharCnnHead,
    ClsAttentionHead,
    ClsHead,
    CnnHead,
    ConcatHead,
    DpcnnHead,
    EncoderHead,
    GemHead,
    HanHead,
    Head,
    LabelsHead,
    LayersHead,
    MeanHead,
    PlainHead,
    RcnnHead,
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
from foldstack.techniques.network_preset import NetworkSettings, Words
from foldstack.techniques.optimizers import Adafactor, AdamW, Optimizer
from foldstack.techniques.pair_losses import (
    Cosent,
    CosineError,
    MultipleNegatives,
    PairContrastive,
    PairCrossEntropy,
    PairLoss,
)
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
from foldstack.techniques.sequence_preset import SequenceSettings
from foldstack.techniques.setfit_preset import SetfitSettings
from foldstack.techniques.teaching import Distillation, JointDistillation, PseudoLabels
from foldstack.techniques.text_template import Template
from foldstack.techniques.tfidf_preset import TfidfSettings
from foldstack.techniques.training import StageSettings, TrainingSettings
from foldstack.techniques.transformer_preset import TransformerSettings
from foldstack.techniques.vector_sources import (
    BackboneSource,
    LatentSource,
    SvmWordsSource,
    VectorSource,
    WordMeanSource,
    WordsSource,
)
from foldstack.techniques.vectors_preset import VectorsSettings
from foldstack.techniques.word_rules import PartsOfSpeech, StopWords, WordRules
from foldstack.techniques.word_vectors_settings import WordVectorsSettings

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
    "BiEncoderSettings",
    "BothOrders",
    "CharCnnHead",
    "ClassWeights",
    "ClsAttentionHead",
    "ClsHead",
    "CnnHead",
    "ConcatHead",
    "Consistency",
    "ConstantSchedule",
    "Correlation",
    "Cosent",
    "Cosine",
    "CosineError",
    "CrossEntropy",
    "Dice",
    "Distillation",
    "DpcnnHead",
    "EncoderHead",
    "End",
    "Focal",
    "FreeLB",
    "GemHead",
    "HanHead",
    "Hard",
    "Head",
    "HeadTail",
    "Huber",
    "JointDistillation",
    "Keywords",
    "LabelTextsClassifier",
    "LabelsHead",
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
    "LoraSettings",
    "Loss",
    "MeanHead",
    "MultilabelCrossEntropy",
    "MultipleNegatives",
    "NeighboursClassifier",
    "NetworkSettings",
    "Optimizer",
    "Oversample",
    "PairContrastive",
    "PairCrossEntropy",
    "PairLoss",
    "PairwiseAUC",
    "PartsOfSpeech",
    "PlainHead",
    "Plateau",
    "Power",
    "Pretraining",
    "PseudoLabels",
    "RandomWindow",
    "RcnnHead",
    "RecurrentHead",
    "RidgeVectorClassifier",
    "RunFacts",
    "Sampling",
    "ScaledCrossEntropy",
    "Schedule",
    "SequenceSettings",
    "SetfitSettings",
    "Smote",
    "SoftF1",
    "Soup",
    "SpanMasking",
    "SquaredError",
    "StageSettings",
    "Step",
    "StopWords",
    "SvmClassifier",
    "SvmWordsSource",
    "Technique",
    "Template",
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
    "WordMeanSource",
    "WordRules",
    "WordVectorsSettings",
    "Words",
    "WordsSource",
]
