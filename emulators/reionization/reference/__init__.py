"""What the reference simulator is made of: 21cmFAST, and warm dark matter for it."""
