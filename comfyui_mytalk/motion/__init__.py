"""Speech and a person's landmarks in, lower-face motion out."""
