"""The engine that draws Critters: shapes, a painter, and how each species looks."""
