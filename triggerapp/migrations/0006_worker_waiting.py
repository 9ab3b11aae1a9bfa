"""How the runs of a worker wait."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("triggerapp", "0005_keys_and_packets")]

    operations = [
        migrations.AddField("worker", "waiting", models.TextField(default="", db_default="")),
    ]
