"""Makes the embedded zoo: trains its models and its image encoder, measures and profiles them, writes it all down."""
