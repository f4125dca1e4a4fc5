"""SLURM: which jobs a pipeline becomes, what must hold before they are submitted, and their submission."""
