"""What images are worth: classifiers trained on them, tested on photos they have not seen."""
