"""What search shows first: a guide says more to someone who searches than an entry of the reference."""

BOOSTS = {"guides/": 4.0, "reference/": 0.1, "notebooks/": 0.5, "changelog": 0.1, "contributing": 0.1}


def on_page_markdown(markdown, page, config, files):
    """Called by MkDocs for each page: sets how much its hits count, unless the page does itself."""
    boost = next((boost for start, boost in BOOSTS.items() if page.file.src_uri.startswith(start)), None)
    if boost is not None:
        page.meta.setdefault("search", {"boost": boost})
    return markdown
