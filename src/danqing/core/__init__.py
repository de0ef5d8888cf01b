"""The types a newcomer must know: ResolvedBrief, Painter, Canvas, Conditioning, Picture, Card, Seeds."""
