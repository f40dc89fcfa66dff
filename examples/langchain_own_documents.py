"""Your own documents and your own embeddings in LangChain: index, retrieve, rerank, answer.

Where OPENAI_BASE_URL names no language model, it prints what one would be asked:

    Answer from the context alone.
    Context: The warranty covers the motor for ten years, and everything else for two.
    Question: how long is the motor covered?
"""

from __future__ import annotations

import os
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from sklearn.feature_extraction.text import HashingVectorizer

from rerank_plugins.faiss import FaissVectorStore
from rerank_plugins.langchain import CrossEncoderRerank

TEXTS = [
    "The warranty covers the motor for ten years, and everything else for two.",
    "Clean the filter of the motor every month, and let it dry before you put it back.",
    "The motor turns 1,400 times a minute.",
]
PROMPT = "Answer from the context alone.\nContext: {context}\nQuestion: {question}"


class HashedWords(Embeddings):
    """In the place of your own, such as ``HuggingFaceEmbeddings`` of langchain-huggingface."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return HashingVectorizer(n_features=1024).transform(texts).toarray().tolist()  # type: ignore[no-any-return]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def language_model() -> Runnable[Any, Any]:
    if "OPENAI_BASE_URL" in os.environ:
        from langchain_openai import ChatOpenAI  # type: ignore[import-not-found,unused-ignore]

        return ChatOpenAI(model=os.environ["OPENAI_MODEL"])  # type: ignore[no-any-return,unused-ignore]
    return RunnableLambda(lambda prompt: prompt.to_string())


def main() -> None:
    first_stage = FaissVectorStore.from_texts(TEXTS, HashedWords()).as_retriever()
    retriever = CrossEncoderRerank(model="embedded", top_n=1).over(first_stage)
    context = retriever | (lambda found: "\n".join(document.page_content for document in found))
    inputs = {"context": context, "question": RunnablePassthrough()}
    chain = inputs | PromptTemplate.from_template(PROMPT) | language_model() | StrOutputParser()
    print(chain.invoke("how long is the motor covered?"))


if __name__ == "__main__":
    main()
