from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):

    atomic = False  # runs are triggered and moved meanwhile

    dependencies = [
        ('triggerapp', '0010_personal_tokens'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='run',
            index=models.Index(condition=models.Q(('version__isnull', False)), fields=['environment', 'version', '-created_at', '-id'], name='run_of_version'),
        ),
    ]
