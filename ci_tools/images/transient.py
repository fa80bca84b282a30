def transient(text: str) -> bool:
    return any(word in text.lower() for word in ("toomanyrequests", "timeout", "reset", "503"))
