"""The one Spark session of a job."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    DateType,
    DoubleType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from evergreen.lake.schemas import TableSpec
from evergreen.settings.platform import SparkSettings

JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xss4m -Djava.net.preferIPv4Stack=true"
"""A day's job lives for seconds: the optimising compiler and a parallel collector cost it more than they give
(measured: 13 instead of 25 CPU seconds for reading 639 days)."""


def spark_options(spark: SparkSettings) -> dict[str, str]:
    """Options of the session, also for `spark-submit --conf`, where the JVM is started before Python is."""
    partitions = str(spark.partitions)
    return {
        "spark.master": spark.master,
        "spark.driver.memory": f"{spark.memory_gib}g",
        "spark.driver.extraJavaOptions": JAVA_OPTIONS,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.sql.shuffle.partitions": partitions,
        "spark.default.parallelism": partitions,
        # A lake of daily files has many small ones: a task should read hundreds of them.
        "spark.sql.files.openCostInBytes": "65536",
        # Staging folders are private: nothing needs a second rename or a marker of success.
        "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": "2",
        "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
        "spark.sql.sources.parallelPartitionDiscovery.threshold": "100000",
    }


def spark_session(spark: SparkSettings, name: str = "evergreen") -> SparkSession:
    """The session of this process, started on the first call."""
    builder = SparkSession.builder.appName(name)
    for key, value in spark_options(spark).items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("WARN")
    return session


def read_files(spark: SparkSession, spec: TableSpec, paths: Sequence[str]) -> DataFrame:
    """Rows of the named files of a table; `event_date` comes from the folder that a file lies in.

    Args:
        spark: the session.
        spec: the table.
        paths: absolute paths below `event_date=D`, of whatever attempts. None gives an empty frame.
    """
    schema = StructType([StructField(field.name, _spark_type(field.type)) for field in spec.file_schema])
    if not paths:
        return spark.createDataFrame([], schema.add("event_date", DateType()))
    # Spark finds partition columns only where all files lie under one folder; ours lie under one an attempt.
    folder = sf.substring_index(sf.col("_metadata.file_path"), "event_date=", -1)
    return spark.read.schema(schema).parquet(*paths).withColumn("event_date", sf.substring(folder, 1, 10).cast("date"))


def _spark_type(kind: pa.DataType) -> DataType:
    if pa.types.is_list(kind):
        return ArrayType(_spark_type(kind.value_type))
    simple: dict[pa.DataType, DataType] = {
        pa.string(): StringType(),
        pa.int64(): LongType(),
        pa.float64(): DoubleType(),
        pa.bool_(): BooleanType(),
        pa.date32(): DateType(),
    }
    return TimestampType() if pa.types.is_timestamp(kind) else simple[kind]
