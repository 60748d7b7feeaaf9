"""Rules about the graph: versions, names and operators that stand in the way of INT8."""
