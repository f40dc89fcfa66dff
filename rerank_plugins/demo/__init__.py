"""The demo: questions about Python, answered from the documentation that Python carries with it.

FAISS finds 50 passages for a question, the cross-encoder reranks them, in LangChain or LlamaIndex.
"""
