"""Things to sell, drawn by our own code: shapes, materials and labels, and the photos taken of them."""
