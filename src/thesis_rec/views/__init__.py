"""What cheap, fixed views of a dataset's images reach on its labels."""
