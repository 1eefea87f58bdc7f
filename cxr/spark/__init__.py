"""The same work on a Spark cluster: image preparation, record tables that no machine's memory holds, trainings."""
