"""What one particle does to a state: the kinds of residual that a mean-field ResNet averages."""
