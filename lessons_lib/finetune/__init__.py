"""``python -m lessons_lib.finetune``: fine-tune a network on folders of your own pictures."""
