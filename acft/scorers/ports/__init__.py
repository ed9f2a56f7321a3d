"""The models behind the scorers; a module of this folder is imported when its scorer is loaded."""
