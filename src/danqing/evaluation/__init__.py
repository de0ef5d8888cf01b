"""How good painted pictures are, by an outside judge, on pairs never trained on too."""
