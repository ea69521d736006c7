"""From any table of dated purchase lines to staged days of the canonical contract."""
