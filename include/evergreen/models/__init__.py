"""Models: candidates behind one interface, preprocessing and calibration inside the artefact, bundles, scoring."""
