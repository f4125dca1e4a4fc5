"""What a model costs on a machine: profiling, prediction, budgets and the Pareto front."""
