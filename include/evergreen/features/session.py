"""The one Spark session of a job."""

from __future__ import annotations

from pyspark.sql import SparkSession

from evergreen.settings.platform import SparkSettings

JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xss4m -Djava.net.preferIPv4Stack=true"
"""A day's job lives for seconds: the optimising compiler and a parallel collector cost it more than they give
(measured: 13 instead of 25 CPU seconds for reading 639 days)."""


def spark_options(spark: SparkSettings) -> dict[str, str]:
    """Options of the session, also for `spark-submit --conf`, where the JVM is started before Python is."""
    partitions = str(spark.partitions)
    return {
        **_cluster_options(spark),
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


def _cluster_options(spark: SparkSettings) -> dict[str, str]:
    """What only a cluster needs; it changes no row."""
    options: dict[str, str] = {}
    if not spark.master.startswith("local"):
        options |= {
            "spark.driver.bindAddress": "0.0.0.0",  # executors come by another network than this host's name says
            "spark.executor.memory": f"{spark.executor_memory_gib}g",
            "spark.executor.extraJavaOptions": JAVA_OPTIONS,
        }
    if spark.event_log_folder:
        options |= {"spark.eventLog.enabled": "true", "spark.eventLog.dir": f"file:{spark.event_log_folder}"}
    return options


def spark_session(spark: SparkSettings, name: str = "evergreen") -> SparkSession:
    """The session of this process, started on the first call."""
    builder = SparkSession.builder.appName(name)
    for key, value in spark_options(spark).items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("WARN")
    return session
