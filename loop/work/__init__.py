"""What does the work: real data and its folds, synthesis, evaluation."""
