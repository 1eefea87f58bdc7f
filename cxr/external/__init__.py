"""External validation: a trained model on other hospitals' data, on which nothing is trained."""
