"""The page's sections: each turns artefacts into what the template shows."""
