from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):

    atomic = False  # runs are triggered and moved meanwhile

    dependencies = [
        ('triggerapp', '0010_personal_tokens'),
    ]

    operations = [
        # What an interrupted attempt left is of no use, and in the way.
        migrations.RunSQL('DROP INDEX CONCURRENTLY IF EXISTS run_of_version', migrations.RunSQL.noop),
        AddIndexConcurrently(
            model_name='run',
            index=models.Index(condition=models.Q(('version__isnull', False)), fields=['environment', 'version', '-created_at', '-id'], name='run_of_version'),
        ),
    ]
