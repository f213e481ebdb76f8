"""Reading and writing with a cache: text token by token, and caches whose keys and values are rounded."""
