"""Encoders of the BERT family, and what makes one vector or score of a sequence's hidden states."""
