"""The providers whose models chat, by LiteLLM's names, so that nobody imports LiteLLM to understand `groq/llama`.

They are those for which `litellm.get_supported_openai_params("m", provider)` has an answer. A test compares the two
and prints the list that belongs here.
"""

from __future__ import annotations

from typing import Final

CHAT_PROVIDERS: Final = frozenset(
    """
    a2a ai21 ai21_chat aiohttp_openai amazon_nova anthropic anthropic_text apertis assemblyai azure azure_ai
    azure_text baseten bedrock bedrock_mantle bytez cerebras charity_engine chatgpt chutes clarifai cloudflare
    codestral cognition cohere cohere_chat cometapi compactifai cortecs custom custom_openai darkbloom dashscope
    databricks datarobot deepinfra deepseek docker_model_runner edenai empower fal_ai featherless_ai
    fireworks_ai friendliai galadriel gdc gemini gigachat github github_copilot gradient_ai groq helicone heroku
    hosted_vllm huggingface hyperbolic inception infinity lambda_ai langflow langgraph libertai litellm_proxy
    llamafile lm_studio maritalk meta meta_llama minimax mistral modelscope moonshot morph nadir nano-gpt nebius
    neosantara nlp_cloud novita nscale nvidia_nim oci ollama ollama_chat oobabooga openai openai_like openrouter
    ovhcloud parasail perplexity petals pinstripes poe predibase prism publicai qwen_ai_platform qwencloud
    ragflow replicate sagemaker sagemaker_chat sagemaker_nova sail sambanova sap scaleway scx-ai snowflake
    synthetic tencent tensormesh text-completion-codestral text-completion-inception text-completion-openai
    together_ai triton v0 vercel_ai_gateway vertex_ai vertex_ai_beta vllm volcengine voyage wandb watsonx
    watsonx_text xai xiaomi_mimo zai
    """.split()  # noqa: SIM905  # a list of 132 lines tells no more
)
