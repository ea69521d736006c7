"""The root of the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from evergreen.settings.backup import BackupSettings
from evergreen.settings.base import Section
from evergreen.settings.broker import BrokerSettings
from evergreen.settings.container import ContainerSettings
from evergreen.settings.evaluation import EvaluationSettings
from evergreen.settings.features import FeaturesSettings, FeatureStoreSettings
from evergreen.settings.ingest import IngestSettings
from evergreen.settings.maintenance import MaintenanceSettings
from evergreen.settings.platform import AirflowSettings, LakeSettings, LoggingSettings, MlflowSettings, SparkSettings
from evergreen.settings.promotion import PromotionSettings
from evergreen.settings.quality import QualitySettings
from evergreen.settings.sample import SampleSettings
from evergreen.settings.training import TrainingSettings
from evergreen.settings.workspace import current_home

PROJECT = Path(__file__).resolve().parents[3]


class RetrainingSettings(Section):
    """When candidates are trained."""

    mode: Literal["daily", "controlled"] = Field("daily", description="`controlled`: the retrain controller decides.")


class Settings(Section):
    """All settings of one profile."""

    profile: str = Field("local", description="Name of the profile: the YAML file that this was read from.")
    home: Path = Field(Path("var"), description="Where everything that is not code lives; relative to the project.")
    logging: LoggingSettings = Field(default_factory=LoggingSettings)
    lake: LakeSettings = Field(default_factory=LakeSettings)
    ingest: IngestSettings = Field(default_factory=IngestSettings)
    sample: SampleSettings = Field(default_factory=SampleSettings)
    quality: QualitySettings = Field(default_factory=QualitySettings)
    features: FeaturesSettings = Field(default_factory=FeaturesSettings)
    feature_store: FeatureStoreSettings = Field(default_factory=FeatureStoreSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    container: ContainerSettings = Field(default_factory=ContainerSettings)
    retraining: RetrainingSettings = Field(default_factory=RetrainingSettings)
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    promotion: PromotionSettings = Field(default_factory=PromotionSettings)
    maintenance: MaintenanceSettings = Field(default_factory=MaintenanceSettings)
    backup: BackupSettings = Field(default_factory=BackupSettings)
    spark: SparkSettings = Field(default_factory=SparkSettings)
    airflow: AirflowSettings = Field(default_factory=AirflowSettings)
    mlflow: MlflowSettings = Field(default_factory=MlflowSettings)
    broker: BrokerSettings = Field(default_factory=BrokerSettings)

    @property
    def root_path(self) -> Path:
        """`home`, absolute: above all workspaces."""
        return self.home if self.home.is_absolute() else PROJECT / self.home

    @property
    def home_path(self) -> Path:
        """The current workspace's folder, absolute: where lake, ledger, registry and Airflow live."""
        return current_home(self.root_path)

    @property
    def lake_path(self) -> Path:
        """Root folder of the lake, absolute."""
        return self.home_path / self.lake.location

    @property
    def mlflow_uri(self) -> str:
        """Tracking URI with the default resolved."""
        return self.mlflow.tracking_uri or f"sqlite:///{self.home_path / 'mlflow' / 'mlflow.db'}"
