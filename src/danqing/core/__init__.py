"""The types a newcomer must know: Brief, Painter, Canvas, Conditioning, Picture, Card, Seeds."""
